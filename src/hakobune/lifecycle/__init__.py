"""The Cloud Native Buildpacks lifecycle: a module a phase, decisions apart from effects.

How a platform puts the phases together (`builds.build` does; each phase says what it needs and gives)::

    kept = decode_kept_layers(…)                       # the last build's note; None, or not is_usable_by: start from nothing
    analyzed = analyze(store, …)                       # images only, no container
    # the container: kept snapshots over the app over the builder's layers, under a fresh top
    context = BuildContext(environment=sandbox, uid=…, gid=…, variables=inherit(…), target=analyzed.target)
    write_analyzed(sandbox, analyzed, layers=context.layers)
    detected = detect(context, order=…, catalog=…, system=…, progress=progress)
    restored = restore(context, store, group=detected.group, previous=analyzed.previous,
                       metadata=analyzed.metadata, kept=kept, progress=progress)
    built = build(context, detected=detected, catalog=…, progress=progress)
    exported = export(context, store, OverlayChanges(top / "up", snapshots), …)    # publishes the image
    sandbox.close()
    note = keep(exported, context, store, upper=top / "up", lowers=rootfs.lowers, snapshots=snapshots)
    store.set_root("builds", name, [*roots_of(note), exported.image.digest])       # then write encode_kept_layers(note)

Any of them may raise a `LifecycleError`; until `keep`, nothing that was kept has changed.
"""
