"""Copies one snapshot of a run to its folder elsewhere."""

from pathlib import Path

from warp_train.runtime.urls import Remote
from warp_train.training.checkpoints.links import LINKS
from warp_train.training.checkpoints.state import STATE_FILE
from warp_train.training.remote.places import names, read
from warp_train.training.remote.staging import Snapshot, state_last
from warp_train.training.remote.writers import Changes, Stamp, write
from warp_train.training.run_folder import RECIPE_FILE, SUMMARY_FILE


def upload(snapshot: Snapshot, run: Remote, sent: dict[str, Stamp]) -> None:
    """Makes `run` hold the snapshot. Whatever the file system raises is raised.

    A process that dies meanwhile leaves a run that can be resumed: its pointers name complete
    checkpoints, and its metrics reach at least as far.

    Args:
        sent: see `write`.
    """
    write(run, _changes(snapshot, run), sent)


def _changes(snapshot: Snapshot, run: Remote) -> Changes:
    checkpoints, there = run / "checkpoints", names(run / "checkpoints")
    puts: dict[str, Path | bytes] = {RECIPE_FILE: snapshot.recipe, **dict(snapshot.growing())}
    removes = [f"checkpoints/{name}/" for name in sorted(there - snapshot.checkpoints.keys())]
    for name, folder in snapshot.checkpoints.items():
        # The state is written last, so an equal one stands for a complete and equal checkpoint.
        state = (folder / STATE_FILE).read_bytes()
        if name in there and read(checkpoints / name / STATE_FILE) == state:
            continue
        files = state_last(folder)
        puts |= {f"checkpoints/{name}/{file.name}": file for file in files}
        others = names(checkpoints / name) - {file.name for file in files} if name in there else ()
        removes += [f"checkpoints/{name}/{other}" for other in sorted(others)]
    # `best` before `last`: a resumed run takes from its newest state which one is the best.
    puts |= {link: f"{target}\n".encode() for link, target in snapshot.links.items()}
    present = names(run)
    gone = present & {*LINKS} - snapshot.links.keys()
    # Of a finished stage that is prolonged: it would mark the newer state as finished, too.
    outdated = present & {SUMMARY_FILE} - snapshot.ending.keys()
    return Changes({**puts, **snapshot.ending}, [*sorted(gone), *removes], outdated)
