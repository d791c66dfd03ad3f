"""The parent of all processes of the exporter. It is root, and does nothing but start, open and hand over.

It opens what only root may: the sockets, and the configuration, again at each reload. It reads no secret and talks to
nobody but the exporter, in a closed set of messages. Its effective capabilities are those to become another user and to
end a process; the others it only keeps to hand them on, to a reader or a prober that has to be started again.

`parent` starts and ends processes, `roles` says what each becomes, `serve` is where the command begins.
"""
