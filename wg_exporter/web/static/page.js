// The page at `/`, kept up to date: asks for the status document, draws it, sorts, filters, and says when it is old.
//
// The server has made the same page as a plain table (web/landing.py, web/peers.py). Functions here that make words have
// the names of those there, and a test holds one against the other. All that is shown is put in as text, never as HTML;
// the page's Trusted Types policy makes the browser refuse anything else.
"use strict";
(() => {
  const EVERY = 5; // seconds between two refreshes
  const SHARE = 10; // an answer that takes long is waited for one second in so many, up to
  const SELDOM = 60; // seconds between two refreshes
  const PATIENCE = 15; // seconds to wait for an answer
  const STALE = 20; // seconds, after which data is old even if no refresh has failed, as in a laptop that slept
  const MOST_ROWS = 1000; // drawn at once
  const MOST_OPEN = 10; // as in web/landing.py, as are these
  const MOST_PROBLEMS = 20;
  const NOT_KNOWN = "not known";
  const NOTHING = "-";
  const TILES = [["down", "bad"], ["degraded", "odd"], [NOT_KNOWN, "odd"], ["idle", "dull"], ["never", "dull"], ["up", "good"]];
  const LEVELS = { warn: "odd", error: "bad" };
  const RANKS = { down: 0, degraded: 1, up: 4, idle: 5, never: 6 };
  const NOBODY_WAITS =
    "by default a peer is expected up if it has a persistent keepalive and its file names an endpoint, so a hub whose " +
    "branches call in expects nobody; say under `expect` in the configuration whom you wait for";

  const at = (id) => document.getElementById(id);
  const table = at("peers");
  const names = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  let found = null; // the last document
  let events = []; // the last of the journal, the oldest first
  let asked = null; // when it was asked for
  let problem = ""; // why the last refresh failed
  let next = 0; // the timer of the next refresh
  let limit = MOST_ROWS;
  const view = { state: "", text: "", by: "state", back: false };
  const rows = new Map(); // what is on the page, by peer
  // What the server has drawn, by the text of its heading: it is taken over, which is less work than drawing it again.
  const drawn = new Map([...table.tBodies].map((body) => [body.querySelector(".peer").textContent, body]));

  // --- words, as in status/words.py ---

  const count = (number, noun) => `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;

  function ago(seconds) {
    seconds = Math.trunc(seconds);
    if (seconds < -3) return "in the future (clock?)";
    for (const [length, unit] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
      if (seconds >= 2 * length) return `${count(Math.floor(seconds / length), unit)} ago`;
    }
    return seconds > 0 ? `${count(seconds, "second")} ago` : "just now";
  }

  function milliseconds(seconds) {
    if (seconds >= 1) return `${seconds.toFixed(2)} s`;
    const number = seconds * 1e3;
    return `${number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0)} ms`;
  }

  const loss = (ratio) => `${(ratio * 100).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0)}%`;
  const inShort = (mtu) =>
    mtu.recommended && mtu.verdict !== "ok" ? `${mtu.verdict}, set ${mtu.recommended}` : mtu.verdict;
  const moment = (seconds) => `${new Date(Math.floor(seconds) * 1e3).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const momentAgo = (seconds, now) => `${moment(seconds)}, ${ago(now - seconds)}`;
  const within = (netns) => (netns ? ` in ${netns}` : "");
  const placeOf = (device) => device.interface + within(device.netns);
  const everyPeer = () => found.devices.flatMap((device) => device.peers);

  // --- peers, as in web/peers.py ---

  function rank(peer) {
    let needs = peer.state === "idle" && peer.expected_up ? 3 : RANKS[peer.state];
    if (peer.state === null) needs = peer.expected_up ? 2 : 7;
    return peer.quiet ? Math.max(needs, 3) : needs;
  }

  function namesTwice(device) {
    const seen = new Set();
    return new Set(device.peers.map((peer) => peer.label).filter((label) => seen.has(label) || !seen.add(label)));
  }

  function rowOf(peer, device, now, age, twice) {
    const level = rank(peer);
    const { probe, mtu } = peer;
    const [summary, lines] = more(peer, now);
    return {
      kind: level === 0 ? "bad" : level <= 3 ? "odd" : peer.state === "up" ? "good" : "dull",
      state: peer.state ?? NOT_KNOWN,
      since: [
        peer.state_since && ago(now - peer.state_since),
        peer.fast_up === false && "down by fast echoes",
        peer.quiet && "quiet",
      ].filter(Boolean).join(", "),
      name: peer.label,
      place:
        placeOf(device) +
        (peer.endpoint ? `, ${peer.endpoint}` : "") +
        (twice.has(peer.label) ? `, key ${peer.public_key.slice(0, 8)}` : ""),
      reason: (peer.reason ?? "") + (peer.cause ? `: ${peer.cause.cause}` : ""),
      handshake: handshake(peer, age),
      rtt: probe?.round_trip_seconds == null ? NOTHING : milliseconds(probe.round_trip_seconds),
      line: probe?.round_trips ? lineOf(probe.round_trips) : null,
      loss: probe?.loss_ratio == null ? NOTHING : loss(probe.loss_ratio),
      mtu: mtu ? inShort(mtu) : NOTHING,
      summary,
      lines,
    };
  }

  function more(peer, now) {
    const lines = [];
    let summary = "";
    if (peer.reason) {
      const [since, seen] = [peer.state_since, peer.reason_since];
      summary = since ? `since ${momentAgo(since, now)}` : "since before wg-exporter was started";
      summary += `; seen ${seen > since + 1 ? momentAgo(seen, now) : "then"}:`; // of null, 0 is taken
      lines.push(peer.evidence, ...cause(peer.cause, peer.advice));
    }
    if (peer.endpoint_name?.finding) {
      summary ||= "the host name of its endpoint";
      lines.push(peer.endpoint_name.finding);
    }
    if (peer.mtu?.findings && !["ok", "unknown", "unreachable"].includes(peer.mtu.verdict)) {
      summary ||= "what was found about its MTU";
      lines.push(peer.mtu.findings);
    }
    if (peer.target_wanted && peer.target_reason) {
      summary ||= "can't be probed";
      lines.push(`can't be probed: ${peer.target_reason}`);
    }
    if (peer.fast_reason) {
      summary ||= "fast echoes";
      lines.push(`fast echoes: ${peer.fast_reason}`);
    }
    if (peer.quiet) {
      summary ||= "pages nobody";
      lines.push(`quiet until ${moment(peer.quiet.until)}${peer.quiet.reason ? `: ${peer.quiet.reason}` : ""}`);
    }
    return [summary, lines.filter(Boolean)];
  }

  function cause(found, advice) {
    if (!found) return [advice];
    let line = `cause: ${found.cause} (${found.confidence})`;
    if (found.evidence.length) line += `: ${found.evidence.join("; ")}`;
    if (found.also.length) line += `; also possible: ${found.also.join(", ")}`;
    return [line, ...(found.fix.length ? found.fix : [advice])];
  }

  function handshake(peer, age) {
    if (peer.ever_connected === null) return NOTHING;
    if (peer.latest_handshake_age_seconds === null) return peer.ever_connected ? "not known when" : "never connected";
    return ago(peer.latest_handshake_age_seconds + age);
  }

  function lineOf(trips) {
    const [width, height] = [100, 20];
    const step = width / trips.lost.length;
    const known = trips.mean_seconds.filter((mean) => mean !== null);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const top = (known.length && most * 1.25) || 1;
    const runs = [[]];
    let lost = "";
    trips.mean_seconds.forEach((mean, index) => {
      const x = (index + 0.5) * step;
      if (mean === null) runs.push([]);
      else runs.at(-1).push(`${x} ${(height - (mean / top) * height).toFixed(1)}`);
      if (trips.lost[index]) lost += `M${x} ${height}V${mean === null ? 0 : Math.floor((height * 2) / 3)}`;
    });
    const drawn = runs.filter((run) => run.length);
    const span = known.length ? `${milliseconds(least)} to ${milliseconds(most)}` : "no answer";
    const minutes = Math.round((trips.lost.length * trips.step_seconds) / 60);
    const number = trips.lost.reduce((sum, one) => sum + one, 0);
    return {
      title: `last ${count(minutes, "minute")}: ${span}, ${count(number, "probe")} lost`,
      area: drawn.map((run) => `M${run[0].split(" ")[0]} ${height}L${run.join("L")}V${height}Z`).join(""),
      mean: drawn.map((run) => `M${run.join("L")}h0`).join(""),
      lost,
    };
  }

  function deviceOf(device) {
    const peers = count(device.peers.length, "peer");
    const quiet = device.quiet ? `quiet until ${moment(device.quiet.until)}` : "";
    if (device.gone) {
      const facts = [`gone, ${peers} expected up`, quiet];
      return [quiet ? "odd" : "bad", placeOf(device), facts.filter(Boolean).join(", ")];
    }
    const drifted = Object.values(device.drift?.counts ?? {}).reduce((sum, one) => sum + one, 0);
    const facts = [
      device.up === null ? "" : device.up ? "up" : "DOWN",
      device.backend,
      device.listen_port ? `port ${device.listen_port}` : "",
      device.mtu ? `MTU ${device.mtu}` : "",
      device.read_success ? peers : "could not be read",
      drifted ? `differs from its file in ${count(drifted, "place")}` : "",
      quiet,
    ];
    const fine = device.read_success && device.up !== false;
    return [fine ? "dull" : "bad", placeOf(device), facts.filter(Boolean).join(", ")];
  }

  function problemsOf() {
    const lines = [];
    for (const source of found.sources) {
      if (!source.success) lines.push(`${source.source}${within(source.netns)}: ${source.problem ?? ""}`);
    }
    for (const device of found.devices) {
      if (device.gone) continue;
      const place = placeOf(device);
      if (device.problem) lines.push(`${place} could not be read: ${device.problem}`);
      else if (!device.read_success) {
        lines.push(`${place}: this read failed half way: the peers are those of an earlier one`);
      }
      if (device.up === false) lines.push(`${place} is down`);
    }
    return [...lines, ...found.problems];
  }

  // --- the top of the page, as in web/landing.py ---

  function headlineOf() {
    const peers = everyPeer();
    const number = (test) => peers.filter(test).length;
    const expected = number((peer) => peer.expected_up);
    const down = number((peer) => peer.state === "down" && !peer.quiet);
    const degraded = number((peer) => peer.state === "degraded" && !peer.quiet);
    const quiet = number((peer) => peer.quiet);
    const idle = number((peer) => peer.expected_up && peer.state === "idle");
    const unknown = number((peer) => peer.expected_up && peer.state === null);
    const awaitedDown = number((peer) => peer.expected_up && peer.state === "down");
    const format = (value) => value.toLocaleString("en-US");
    let ratio = `${format(expected - awaitedDown - unknown - idle)} of ${format(expected)} up`;
    if (!expected) {
      const whom = peers.length ? `of ${count(peers.length, "peer")} none is expected up` : "no WireGuard peer was found";
      ratio = `nothing here can page: ${whom}`;
    }
    const parts = [[down, "down"], [degraded, "degraded"], [idle, "idle or dead"], [unknown, "not judged yet"]];
    parts.push([quiet, "quiet"]);
    const text = [ratio, ...parts.filter(([value]) => value).map(([value, what]) => `${format(value)} ${what}`)];
    const odd = quiet || degraded || idle || unknown || !expected || problemsOf().length;
    return { text: text.join("; "), title: down ? `${format(down)} down` : ratio, kind: down ? "bad" : odd ? "odd" : "good" };
  }

  function linesAtTop() {
    const lines = problemsOf();
    const peers = everyPeer();
    if (peers.length && !peers.some((peer) => peer.expected_up)) lines.push(NOBODY_WAITS);
    const rest = lines.length - MOST_PROBLEMS;
    return rest > 0 ? [...lines.slice(0, MOST_PROBLEMS), `and ${rest.toLocaleString("en-US")} more`] : lines;
  }

  // --- putting text on the page ---

  const fresh = (name) => at(name).content.firstElementChild.cloneNode(true);
  // As in web/html.py: what can't be printed could turn the direction of what stands beside it.
  const plain = (text) => text.replace(/(?! )[\p{C}\p{Z}]/gu, "\ufffd");

  function put(node, text) {
    text = plain(text);
    if (node.textContent !== text) node.textContent = text;
  }

  function name(node, value) {
    if (node.className !== value) node.className = value;
  }

  function putWithCode(node, line) {
    const parts = line.split("`").map((part, index) => {
      if (index % 2 === 0) return plain(part);
      const code = document.createElement("code");
      code.textContent = plain(part);
      return code;
    });
    node.replaceChildren(...parts);
  }

  // Lines of text as children of a node, made anew only if they have changed.
  function putLines(node, lines, make) {
    const key = JSON.stringify(lines);
    if (node.lines === key) return;
    node.lines = key;
    node.replaceChildren(...lines.map(make));
  }

  function paragraph(line) {
    const node = document.createElement("p");
    putWithCode(node, line);
    return node;
  }

  function drawTop() {
    putLines(at("problems"), linesAtTop(), (line) => {
      const node = fresh("problem");
      putWithCode(node, line);
      return node;
    });
    const numbers = Object.fromEntries(TILES.map(([state]) => [state, 0]));
    for (const peer of everyPeer()) numbers[peer.state ?? NOT_KNOWN] += 1;
    const shown = TILES.filter(([state]) => numbers[state] || state !== NOT_KNOWN || state === view.state);
    const tiles = at("tiles");
    if (tiles.children.length !== shown.length || tiles.firstElementChild?.disabled) {
      tiles.replaceChildren(...shown.map(() => fresh("tile")));
    }
    shown.forEach(([state, kind], index) => {
      const tile = tiles.children[index];
      tile.disabled = false;
      tile.value = state;
      tile.setAttribute("aria-pressed", String(view.state === state));
      name(tile, `tile ${numbers[state] ? kind : "none"}`);
      put(tile.querySelector("b"), numbers[state].toLocaleString("en-US"));
      put(tile.querySelector("span"), state);
    });
    putLines(at("devices"), found.devices.map(deviceOf), ([kind, place, facts]) => {
      const node = fresh("device");
      node.className = kind;
      put(node.querySelector("b"), place);
      node.append(plain(facts));
      return node;
    });
    put(at("host"), found.exporter?.host ?? "this host");
    drawEvents();
  }

  // The words are the server's (events/words.py), which is asked for them too.
  function drawEvents() {
    putLines(at("events"), [...events].reverse(), ({ level, time, text }) => {
      const node = fresh("event");
      node.className = LEVELS[level] ?? "dull";
      put(node.querySelector("time"), moment(time));
      node.append(plain(text));
      return node;
    });
  }

  function drawRow(body, row, unfold) {
    name(body, row.kind);
    const cell = (selector) => body.firstElementChild.querySelector(selector);
    put(cell(".state b"), row.state);
    put(cell(".state small"), row.since);
    put(cell(".peer b"), row.name);
    put(cell(".peer small"), row.place);
    put(cell(".reason"), row.reason);
    put(cell(".handshake"), row.handshake);
    put(cell(".rtt span"), row.rtt);
    put(cell(".loss"), row.loss);
    put(cell(".mtu span"), row.mtu);
    drawLine(cell(".rtt"), row.line);
    let below = body.querySelector(".more");
    if (!row.summary) {
      below?.remove();
      body.reason = "";
      return;
    }
    if (!below) {
      below = fresh("more");
      below.querySelector("details").open = unfold;
      body.append(below);
    }
    const details = below.querySelector("details");
    if (row.reason && body.reason === "") details.open = unfold; // it was well when it was drawn before
    body.reason = row.reason;
    const summary = details.querySelector("summary");
    put(summary, row.summary);
    const key = JSON.stringify(row.lines);
    if (details.lines !== key) {
      details.lines = key;
      details.replaceChildren(summary, ...row.lines.map(paragraph));
    }
  }

  function drawnAs(row) {
    const heading = plain(`${row.name} ${row.place}`);
    const body = drawn.get(heading);
    drawn.delete(heading);
    return body;
  }

  function drawLine(cell, line) {
    let picture = cell.querySelector("svg");
    if (!line) {
      picture?.remove();
      return;
    }
    if (!picture) {
      picture = fresh("line");
      cell.prepend(picture);
    }
    put(picture.querySelector("title"), line.title);
    for (const part of ["area", "mean", "lost"]) picture.querySelector(`.${part}`).setAttribute("d", line[part]);
  }

  // --- which peers, in which order ---

  const KEYS = {
    state: (one) => [rank(one.peer), -(one.peer.state_since ?? 0)],
    name: () => [],
    reason: (one) => [one.peer.reason],
    handshake: (one) => [one.peer.latest_handshake_age_seconds],
    rtt: (one) => [one.peer.probe?.round_trip_seconds ?? null],
    loss: (one) => [one.peer.probe?.loss_ratio ?? null],
    mtu: (one) => [one.peer.mtu && Number(one.peer.mtu.verdict === "ok"), one.peer.mtu?.verdict ?? null],
  };
  const LARGEST_FIRST = new Set(["handshake", "rtt", "loss"]);

  function compare(one, other) {
    const downwards = LARGEST_FIRST.has(view.by) !== view.back ? -1 : 1;
    for (let index = 0; index < one.keys.length; index += 1) {
      const [a, b] = [one.keys[index], other.keys[index]];
      if (a === b) continue;
      if (a === null || b === null) return a === null ? 1 : -1; // what is not known comes last, either way
      return (a < b ? -1 : 1) * downwards;
    }
    return names.compare(one.peer.label, other.peer.label) * (view.by === "name" ? downwards : 1);
  }

  function chosen() {
    const wanted = view.text.trim().toLowerCase();
    const picked = [];
    for (const device of found.devices) {
      for (const peer of device.peers) {
        if (view.state && (peer.state ?? NOT_KNOWN) !== view.state) continue;
        const one = { device, peer, keys: null };
        if (wanted && !wordsOf(one).includes(wanted)) continue;
        one.keys = KEYS[view.by](one);
        picked.push(one);
      }
    }
    return picked.sort(compare);
  }

  function wordsOf({ device, peer }) {
    const parts = [peer.label, placeOf(device), peer.public_key, peer.endpoint, ...(peer.allowed_ips ?? [])];
    parts.push(peer.state ?? NOT_KNOWN, peer.reason, peer.cause?.cause, peer.target, peer.mtu?.verdict, peer.quiet && "quiet");
    parts.push(peer.fast_up === false && "down by fast echoes", peer.fast_reason);
    return parts.filter(Boolean).join("\n").toLowerCase();
  }

  function drawPeers() {
    const picked = chosen();
    const age = ageOf();
    const now = found.time + age;
    const shown = picked.slice(0, limit);
    const kept = new Set();
    const twice = new Map(found.devices.map((device) => [device, namesTwice(device)]));
    let place = table.tHead.nextElementSibling;
    shown.forEach(({ peer, device }, index) => {
      const id = JSON.stringify([device.netns, device.interface, peer.public_key]);
      kept.add(id);
      const row = rowOf(peer, device, now, age, twice.get(device));
      if (!rows.has(id)) rows.set(id, drawnAs(row) ?? fresh("peer"));
      const body = rows.get(id);
      drawRow(body, row, index < MOST_OPEN && Boolean(peer.reason));
      if (body === place) place = place.nextElementSibling;
      else table.insertBefore(body, place);
    });
    while (place) {
      const after = place.nextElementSibling;
      place.remove();
      place = after;
    }
    for (const id of rows.keys()) if (!kept.has(id)) rows.delete(id);
    drawn.clear();
    const total = everyPeer().length;
    const some = picked.length < total ? `${picked.length.toLocaleString("en-US")} of ` : "";
    put(at("shown"), some + count(total, "peer"));
    at("rest").hidden = shown.length === picked.length;
    put(at("rest").firstElementChild, `show all ${picked.length.toLocaleString("en-US")}`);
    for (const head of table.tHead.querySelectorAll("th")) {
      const { by } = head.dataset;
      if (by !== view.by) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", LARGEST_FIRST.has(by) !== view.back ? "descending" : "ascending");
    }
  }

  // --- how old it is ---

  // By both clocks, as one stands still while a laptop sleeps, and the other may be set.
  function ageOf() {
    return Math.max(performance.now() - asked.monotonic, Date.now() - asked.wall, 0) / 1e3;
  }

  function drawAge() {
    if (!found) {
      at("alarm").hidden = !problem;
      put(at("alarm"), problem && `The refresh failed: ${problem}. This page is as it was when it was loaded.`);
      document.body.classList.toggle("stale", Boolean(problem));
      return;
    }
    const age = ageOf();
    const stale = Boolean(problem) || age > Math.max(STALE, 3 * pause());
    const old = `${moment(found.time)}, ${ago(age)}`;
    const headline = headlineOf();
    put(at("as-of"), `as of ${old}`);
    put(at("headline"), stale ? `not known now; ${ago(age)}: ${headline.text}` : headline.text);
    name(at("headline"), stale ? "stale" : headline.kind);
    document.body.classList.toggle("stale", stale);
    at("alarm").hidden = !stale;
    put(at("alarm"), stale ? `The refresh fails: ${problem || "no answer yet"}. All below is as of ${old}, and may be wrong.` : "");
    const title = `${found.exporter?.host ?? "this host"}: ${stale ? "no answer" : headline.title} - wg-exporter`;
    if (document.title !== title) document.title = title;
  }

  function draw() {
    if (found) {
      drawTop();
      drawPeers();
      at("search").hidden = false;
    }
    drawAge();
  }

  // --- asking ---

  let took = 0; // seconds that the last answer took
  const pause = () => Math.max(EVERY, Math.min(took * SHARE, SELDOM));

  // Not with a name and password in the address, which fetch refuses; the browser knows them anyway.
  async function ask(path) {
    const url = new URL(path, location.origin + location.pathname);
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE * 1e3) });
    if (!answer.ok) throw new Error(`${answer.status}, ${(await answer.text()).split("\n")[0].slice(0, 200)}`);
    return answer;
  }

  async function refresh() {
    clearTimeout(next);
    next = 0;
    const begun = { monotonic: performance.now(), wall: Date.now() };
    try {
      const { api, journal } = document.body.dataset;
      const [told, lines] = await Promise.all([
        ask(api).then((answer) => answer.json()),
        ask(journal).then((answer) => answer.text()),
      ]);
      if (told.version !== 1) throw new Error("the exporter is another version; reload this page");
      [found, asked, problem] = [told, begun, ""];
      events = lines.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    } catch (error) {
      problem = error.name === "TimeoutError" ? `no answer within ${PATIENCE} s` : reasonOf(error);
    }
    took = (performance.now() - begun.monotonic) / 1e3;
    draw();
    next = setTimeout(refresh, pause() * 1e3);
  }

  // Browsers say "Failed to fetch" and the like, each in its own words.
  const reasonOf = (error) => (error instanceof TypeError ? "the exporter can't be reached" : error.message);

  // --- what the reader does ---

  function remember() {
    const wish = { state: view.state, find: view.text, by: view.by === "state" ? "" : view.by, back: view.back ? "1" : "" };
    const said = new URLSearchParams(Object.entries(wish).filter(([, value]) => value)).toString();
    history.replaceState(null, "", said ? `#${said}` : location.pathname);
  }

  function recall() {
    const wish = new URLSearchParams(location.hash.slice(1));
    const [state, by] = [wish.get("state") ?? "", wish.get("by") ?? "state"];
    view.state = TILES.some(([known]) => known === state) ? state : "";
    view.by = Object.hasOwn(KEYS, by) ? by : "state";
    view.text = wish.get("find") ?? "";
    view.back = wish.get("back") === "1";
    at("text").value = view.text;
  }

  function change(wish) {
    Object.assign(view, wish);
    limit = MOST_ROWS;
    remember();
    draw();
  }

  at("tiles").addEventListener("click", (event) => {
    const tile = event.target.closest("button");
    if (tile) change({ state: view.state === tile.value ? "" : tile.value });
  });
  at("text").addEventListener("input", (event) => change({ text: event.target.value }));
  at("search").addEventListener("submit", (event) => event.preventDefault());
  at("rest").addEventListener("click", () => {
    limit = Infinity;
    draw();
  });
  for (const head of table.tHead.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const { by } = head.dataset;
    button.addEventListener("click", () => change({ by, back: view.by === by && !view.back }));
  }
  addEventListener("hashchange", () => {
    recall();
    draw();
  });
  addEventListener("pageshow", (event) => event.persisted && refresh());
  document.addEventListener("visibilitychange", () => !document.hidden && next && refresh());

  recall();
  setInterval(drawAge, 1000);
  refresh();
})();
