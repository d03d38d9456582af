"""A release into the spare slot: downloaded in pieces and gone on with where it ended, checked as a whole, switched to.

Each part of this is loaded when it is its turn, and from small files: to compile a large one takes more memory than to
run it.
"""

import gc
import os

from .flash import blocks, digest, make_folders, room, size_of, taken, wipe
from .outcomes import Gone, Unfit
from .settings import NO_ROOM, write

ENVELOPE_BYTES = 6144
POLL_MS = 20
PAUSES_S = (0, 1, 3, 10, 30)
"""Before each try of one start."""
ONLINE_MS = 60000
KEPT_BYTES = 16384
"""Of flash for what else the board writes meanwhile: markers, and the folders themselves."""
NO_PLACE = "there is no room for it on the flash"


def attempt(updates, settings, *, open_link, ask_time, is_online, feed, log=print) -> None:
    """Ends with another start: into the new release, or as before with a word of why not."""
    log("loading " + updates.offer["version"])
    for pause_s in PAUSES_S:
        try:
            _wait(updates.clock, pause_s * 1000, is_online, feed)
            _fetch(updates, settings, open_link, ask_time, feed)
            break
        except Gone as error:
            log(str(error))
            updates.forget()
            break
        except Unfit as error:
            _leave(updates, str(error), log)
            break
        except (OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno == NO_ROOM:
                _leave(updates, NO_PLACE, log)
                break
            log("{}; the rest is loaded later".format(error))
    else:
        updates.later()
    updates.restart()


def _wait(clock, pause_ms: int, is_online, feed) -> None:
    """Until there is a network, but not for ever: nothing is measured meanwhile."""
    begun_ms = clock.ms()
    while clock.ms() - begun_ms < pause_ms or not is_online():
        if clock.ms() - begun_ms > pause_ms + ONLINE_MS:
            raise OSError("no network")
        feed()
        clock.sleep(POLL_MS)


def _leave(updates, reason: str, log) -> None:
    log("not installed: " + reason)
    wipe(updates.slot_path(spare=True))
    wipe(updates.folder + "/update.part")
    updates.fail(reason)


def _check_room(updates, settings, needed: int) -> None:
    """Readings may fill all that the buffer may take, and an update must not be what they find no room for."""
    buffer = max(0, settings.buffer_kib * 1024 - taken(updates.folder + "/buffer"))
    if room(updates.folder) < needed + buffer + KEPT_BYTES:
        raise Unfit(NO_PLACE)


def _fetch(updates, settings, open_link, ask_time, between) -> None:
    """The release is in the other slot, which is tried from the next start on. `between` is called again and again.

    Raises OSError where it is to be tried again, Unfit, Gone.
    """
    offer, folder = updates.offer, updates.slot_path(spare=True)
    if not 0 < offer["envelope_bytes"] <= ENVELOPE_BYTES:
        raise Unfit("the envelope is too long")
    if not offer.get("begun"):
        wipe(folder)
        wipe(updates.folder + "/update.part")
        os.mkdir(folder)
        _check_room(updates, settings, offer["size"])
        offer["begun"] = True
        updates.keep()
    from .download import Download

    said = Download(settings, open_link, updates.clock, offer["release_id"], between)
    part = updates.folder + "/update.part"
    said.bring([(part, offer["envelope_bytes"])], 0, offer["envelope_bytes"])
    gc.collect()
    from .checking import checked

    with open(part, "rb") as file:
        manifest = checked(file.read(), updates, settings, ask_time)
    gc.collect()
    files = [(folder + "/" + one["path"], one["size"]) for one in manifest["files"]]
    _check_room(updates, settings, sum([blocks(size) - blocks(min(size, size_of(path))) for path, size in files]))
    for path, _ in files:
        make_folders(path, len(folder) + 1)
    said.bring(files, offer["envelope_bytes"], offer["size"])
    for one in manifest["files"]:
        between()
        if digest(folder + "/" + one["path"], between) != one["sha256"]:
            raise Unfit(one["path"] + " is not what the manifest says")
    kept = {"version": manifest["version"], "counter": manifest["counter"], "release_id": offer["release_id"]}
    write(folder + "/release.json", kept)
    updates.switch()
    updates.forget()
