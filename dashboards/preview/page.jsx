// Draws one dashboard from its JSON and the answers to its queries, with the components of @grafana/ui where they are
// published (BigValue, TimeSeries, PanelChrome), and plainly where they are not (state timeline, heat map, table). Rows of tables are
// merged by Grafana's own transformation.
import {
  createTheme,
  dateTime,
  FieldType,
  getDisplayProcessor,
  getFieldDisplayName,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  PanelChrome,
  ThemeContext,
  TimeSeries,
} from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';

const theme = createTheme({ colors: { mode: 'dark' } });
const [CELL, GAP] = [30, 8]; // Grafana's grid, in pixels
const { answers: all, which, width } = window.preview;
const { now, from } = all;
const { page, answers, choice } = all.pages.find((each) => each.name === which);
const range = { from: dateTime(from * 1000), to: dateTime(now * 1000), raw: { from: 'now-15m', to: 'now' } };
// "3 minutes ago" is counted from when the data was taken.
Date.now = () => now * 1000;
standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    transformation: () => Promise.resolve(transformation),
    name: transformation.name,
  }))
);

// Data

const number = (text) => (text === 'NaN' ? null : Number(text));
const legend = (format, labels) => format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '').trim();

function tableFrame(refId, series) {
  const labels = [...new Set(series.flatMap((one) => Object.keys(one.metric)))].sort();
  return toDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: series.map((one) => one.value[0] * 1000) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: series.map((one) => one.metric[name] ?? '') })),
      { name: `Value #${refId}`, type: FieldType.number, values: series.map((one) => number(one.value[1])) },
    ],
  });
}

function seriesFrame(panel, target, one) {
  const points = one.values ?? [one.value];
  // A gap stays a gap: a null where a step has no sample.
  const filled = points.flatMap((point, i) =>
    i && point[0] - points[i - 1][0] > (panel.interval ? 70 : 7) ? [[points[i - 1][0] + 1, 'NaN'], point] : [point]
  );
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: filled.map(([time]) => time * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels: one.metric,
        config: { displayNameFromDS: legend(target.legendFormat, one.metric) },
        values: filled.map(([, value]) => number(value)),
      },
    ],
  });
}

function configured(frames, { defaults, overrides }) {
  for (const frame of frames) {
    frame.fields.forEach((field, index) => {
      let config = { ...defaults, ...field.config, custom: { ...defaults.custom } };
      const name = config.displayNameFromDS ?? field.name;
      for (const { matcher, properties } of overrides) {
        const hit = matcher.id === 'byFrameRefID' ? matcher.options === frame.refId : matcher.options === name;
        for (const { id, value } of hit ? properties : []) {
          if (id.startsWith('custom.')) config.custom[id.slice(7)] = value;
          else config[id] = value;
        }
      }
      if (field.type === FieldType.time) config = { custom: {} };
      field.config = config;
      field.state = { ...field.state, seriesIndex: frames.indexOf(frame), displayName: null, origin: { frameIndex: frames.indexOf(frame), fieldIndex: index } };
      field.display = getDisplayProcessor({ field, theme });
      field.getLinks = () => [];
    });
  }
  return frames;
}

function framesOf(panel) {
  const frames = panel.targets.flatMap((target) =>
    answers[panel.id][target.refId].map((one) => seriesFrame(panel, target, one))
  );
  return configured(frames, panel.fieldConfig);
}

// Panels

function Nothing({ panel, width, height }) {
  const text = panel.fieldConfig.defaults.noValue ?? 'No data';
  const style = { width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', fontSize: 16 };
  return <div style={{ ...style, color: theme.colors.text.secondary }}>{text}</div>;
}

function Stat({ panel, width, height }) {
  let frames = framesOf(panel);
  const { textMode, colorMode } = panel.options;
  const values = frames.map((frame) => {
    const field = frame.fields[1];
    return { ...field.display(field.values[0]), title: getFieldDisplayName(field, frame) };
  });
  if (!values.length) {
    // As Grafana does: what there is to say where there is nothing.
    const field = { config: panel.fieldConfig.defaults, type: FieldType.number, values: [] };
    values.push({ ...getDisplayProcessor({ field, theme })(null), text: panel.fieldConfig.defaults.noValue });
  }
  return (
    <div style={{ display: 'flex', gap: 6 }}>
      {values.map((value, index) => (
        <BigValue
          key={index}
          theme={theme}
          width={(width - 6 * (values.length - 1)) / values.length}
          height={height}
          value={value}
          colorMode={colorMode === 'none' ? BigValueColorMode.None : colorMode === 'value' ? BigValueColorMode.Value : BigValueColorMode.Background}
          graphMode={BigValueGraphMode.None}
          textMode={{ name: BigValueTextMode.Name, value_and_name: BigValueTextMode.ValueAndName }[textMode] ?? BigValueTextMode.Value}
          wideLayout
        />
      ))}
    </div>
  );
}

function Lines({ panel, width, height }) {
  const frames = framesOf(panel);
  if (!frames.length) return <Nothing {...{ panel, width, height }} />;
  const palette = theme.visualization.palette.map((name) => theme.visualization.getColorByName(name));
  frames.forEach((frame, index) => {
    frame.fields[1].config.color = { mode: 'fixed', fixedColor: palette[index % palette.length] };
  });
  return (
    <TimeSeries
      frames={frames}
      width={width}
      height={height}
      timeRange={range}
      timeZone="utc"
      structureRev={1}
      legend={panel.options.legend}
      options={panel.options}
    />
  );
}

function Rows({ panel, width, height }) {
  const [data, setData] = React.useState(null);
  React.useEffect(() => {
    const frames = panel.targets
      .map((target) => tableFrame(target.refId, answers[panel.id][target.refId]))
      .map((frame) => (frame.length ? frame : { ...frame, fields: [] }));
    firstValueFrom(transformDataFrame(panel.transformations, frames)).then((made) => {
      const [frame] = configured(made, panel.fieldConfig);
      if (frame) frame.fields = frame.fields.filter((field) => !field.config.custom.hidden);
      setData(frame ?? { fields: [], length: 0 });
    });
  }, []);
  if (!data) return null;
  if (!data.length) return <Nothing {...{ panel, width, height }} />;
  const titled = (field) => field.config.displayName ?? field.name;
  const rows = [...Array(data.length).keys()];
  for (const { displayName, desc } of [...panel.options.sortBy].reverse()) {
    const field = data.fields.find((each) => titled(each) === displayName);
    const compare = (a, b) => (a ?? '') < (b ?? '') ? -1 : Number((a ?? '') > (b ?? ''));
    if (field) rows.sort((a, b) => compare(field.values[a], field.values[b]) * (desc ? -1 : 1));
  }
  const cell = { padding: '0 6px', height: 36, borderBottom: `1px solid ${theme.colors.border.weak}`, overflow: 'hidden', textOverflow: 'ellipsis', whiteSpace: 'nowrap' };
  return (
    <table style={{ width, tableLayout: 'fixed', borderCollapse: 'collapse', fontSize: 14 }}>
      <thead>
        <tr>
          {data.fields.map((field) => (
            <th key={field.name} style={{ ...cell, width: field.config.custom.width, fontWeight: 500, color: theme.colors.primary.text, textAlign: side(field) }}>
              {titled(field)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.slice(0, Math.floor(height / 36) - 1).map((row) => (
          <tr key={row}>{data.fields.map((field) => <td key={field.name} {...shown(field, row, cell)} />)}</tr>
        ))}
      </tbody>
    </table>
  );
}

const side = ({ type, config }) => (type === FieldType.number && config.custom.align !== 'left' ? 'right' : 'left');

function shown(field, row, cell) {
  const { text, prefix, suffix, color } = field.display(field.values[row] ?? null);
  const [look, empty] = [field.config.custom.cellOptions?.type, !field.values[row] && field.values[row] !== 0];
  const style = { ...cell, textAlign: side(field) };
  if (look === 'color-background' && !empty) return { style: { ...style, background: color, color: theme.colors.getContrastText(color) }, children: text };
  style.color = look === 'color-text' && !empty ? color : field.config.links?.length ? theme.colors.text.link : theme.colors.text.primary;
  return { style, children: `${prefix ?? ''}${text}${suffix ?? ''}` };
}

const axisStyle = { fill: theme.colors.text.primary, fontSize: 12 };

function TimeAxis({ left, width, y }) {
  const minutes = [];
  for (let at = Math.ceil(from / 300) * 300; at < now; at += 300) minutes.push(at);
  return minutes.map((at) => (
    <text key={at} {...axisStyle} x={left + ((at - from) / (now - from)) * width} y={y} textAnchor="middle">
      {new Date(at * 1000).toISOString().slice(11, 16)}
    </text>
  ));
}

function spans(field, times) {
  const found = [];
  field.values.forEach((value, i) => {
    const last = found[found.length - 1];
    if (value === null) return;
    if (last && last.value === value && last.end === times[i - 1]) last.end = times[i];
    else {
      if (last && last.end === times[i - 1]) last.end = times[i];
      found.push({ value, start: times[i], end: times[i] });
    }
  });
  return found;
}

function Timeline({ panel, width, height }) {
  const frames = framesOf(panel);
  if (!frames.length) return <Nothing {...{ panel, width, height }} />;
  const names = frames.map((frame) => getFieldDisplayName(frame.fields[1], frame));
  const left = Math.max(...names.map((name) => name.length)) * 7 + 12;
  const [inner, line] = [width - left - 8, (height - 22) / frames.length];
  const x = (time) => left + ((time / 1000 - from) / (now - from)) * inner;
  return (
    <svg width={width} height={height} fontFamily={theme.typography.fontFamily}>
      {frames.map((frame, row) => {
        const [times, field] = [frame.fields[0].values, frame.fields[1]];
        return (
          <g key={row} transform={`translate(0 ${row * line})`}>
            <text {...axisStyle} x={left - 8} y={line / 2 + 4} textAnchor="end">{names[row]}</text>
            {spans(field, times).map(({ value, start, end }, i) => {
              const shown = field.display(value);
              const size = Math.max(x(end) - x(start), 2);
              return (
                <g key={i}>
                  <rect x={x(start)} y={line * 0.08} width={size} height={line * 0.84} fill={shown.color} opacity="0.8" />
                  {size > shown.text.length * 7 && (
                    <text x={x(start) + 4} y={line / 2 + 4} fontSize="12" fill={theme.colors.getContrastText(shown.color)}>{shown.text}</text>
                  )}
                </g>
              );
            })}
          </g>
        );
      })}
      <TimeAxis left={left} width={inner} y={height - 4} />
    </svg>
  );
}

function Heatmap({ panel, width, height }) {
  const series = answers[panel.id].A.map((one) => ({ le: Number(one.metric.le.replace('+Inf', 'Infinity')), values: one.values }));
  series.sort((a, b) => a.le - b.le);
  const counts = series.map(({ le, values }, i) => ({
    le,
    at: new Map(values.map(([time, value]) => {
      const below = i ? Number(series[i - 1].values.find(([t]) => t === time)?.[1] ?? 0) : 0;
      return [time, Number(value) - below];
    })),
  }));
  const top = Math.max(...counts.flatMap(({ at }) => [...at.values()]));
  const [left, bottom] = [58, 20];
  const [inner, line, cell] = [width - left - 8, (height - bottom) / counts.length, 5];
  const format = getDisplayProcessor({ field: { type: FieldType.number, config: { unit: panel.options.yAxis.unit } }, theme });
  const label = (value) => { const { text, suffix } = format(value); return `${text}${suffix ?? ''}`; };
  return (
    <svg width={width} height={height} fontFamily={theme.typography.fontFamily}>
      {counts.map(({ le, at }, row) => {
        const y = height - bottom - (row + 1) * line;
        return (
          <g key={row}>
            {row % 2 === 0 && <text {...axisStyle} x={left - 6} y={y + 4} textAnchor="end">{Number.isFinite(le) ? label(le) : '+Inf'}</text>}
            {[...at].map(([time, count]) => count > 0.01 && (
              <rect key={time} x={left + ((time - from) / (now - from)) * inner} y={y + 0.5} width={(cell / (now - from)) * inner + 0.3} height={line - 1}
                fill={`hsl(${38 - 26 * Math.sqrt(count / top)} 95% ${88 - 50 * Math.sqrt(count / top)}%)`} />
            ))}
          </g>
        );
      })}
      <TimeAxis left={left} width={inner} y={height - 4} />
    </svg>
  );
}

const KINDS = { stat: Stat, timeseries: Lines, table: Rows, 'state-timeline': Timeline, heatmap: Heatmap };

function Placed({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (width - GAP) / 24;
  const style = { position: 'absolute', left: GAP + x * column, top: y * (CELL + GAP) };
  const [wide, high] = [w * column - GAP, h * (CELL + GAP) - GAP];
  if (panel.type === 'row') return <div style={{ ...style, fontSize: 16, paddingTop: 6 }}>⌄ {panel.title}</div>;
  const Kind = KINDS[panel.type];
  return (
    <div style={style}>
      <PanelChrome title={panel.title} width={wide} height={high} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(innerWidth, innerHeight) => <Kind panel={panel} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function Dashboard() {
  const bottom = Math.max(...page.panels.map(({ gridPos: { y, h } }) => y + h)) * (CELL + GAP);
  const chosen = page.templating.list.map(({ name, label }) => `${label}: ${name === 'datasource' ? 'Prometheus' : (choice[name] ?? 'All')}`);
  return (
    <ThemeContext.Provider value={theme}>
      <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, fontFamily: theme.typography.fontFamily, width }}>
        <div style={{ padding: '10px 8px', fontSize: 18 }}>
          {page.title}
          <span style={{ float: 'right', fontSize: 12, color: theme.colors.text.secondary }}>preview, drawn with @grafana/ui; not a screenshot of Grafana</span>
          <div style={{ fontSize: 13, marginTop: 8, color: theme.colors.text.secondary }}>{chosen.join('   ·   ')}</div>
        </div>
        <div style={{ position: 'relative', height: bottom }}>{page.panels.map((panel) => <Placed key={panel.id} panel={panel} />)}</div>
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Dashboard />);
