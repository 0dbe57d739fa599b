"""Imports through a real broker, and SIGKILL in each state of their journal and between each two steps: nothing
missing, nothing twice, nothing begun again that may have begun, and no slot taken for free that may be in use.

All points of a platform share a process, a lane each: every lane stands still at its own point when it is killed.
"""

from pathlib import Path

from tests.support.import_halts import Point
from tests.support.import_kills import Killed, Scene, in_doubt
from tests.support.import_stage import APSIS, COPERNICA, NP6, ORPHANS_LIVE_S, ImportStage, contacts_of, newest_of

APSIS_SCENES = {
    "before-the-entry": Scene(Point.ENTERING),
    "intended": Scene(Point.INTENDED, lapses=True),
    "create-unanswered": Scene(call="create", effect=True, lapses=True),
    "create-lost": Scene(call="create", lapses=True),
    "create-answered": Scene(Point.CREATED_UNWRITTEN, lapses=True),
    "created": Scene(Point.CREATED),
    "created-another-file": Scene(Point.CREATED, lapses=True, again={"delimiter": ";"}),
    "upload-begun": Scene(call="upload"),
    "upload-unanswered": Scene(call="upload", effect=True),
    "upload-answered": Scene(Point.UPLOADED_UNWRITTEN),
    "uploaded": Scene(Point.UPLOADED),
    "polled": Scene(looks=3),
    "told-its-end": Scene(Point.ENDED),
}
# One was opened before the kill of which the next process knows the id.
KNOWN = [lane for lane in list(APSIS_SCENES)[5:] if not APSIS_SCENES[lane].lapses]
OPENED = [lane for lane in APSIS_SCENES if lane not in ("before-the-entry", "intended", "create-lost")]


async def test_apsis_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """What has an id is asked about, and its file is uploaded once; what has none keeps its slot until it lapses."""
    lanes = dict.fromkeys(APSIS_SCENES, APSIS)
    async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes) as stage:
        stage.apsis.configure("polled", {"stuck_at": "in_progress"})
        killed = Killed(stage, APSIS_SCENES)
        told = stage.apsis.imports
        await killed.up_to_the_points(
            "status", lambda lane: told(lane) and (lane != "upload-unanswered" or told(lane)[0].uploads)
        )
        first = {lane: told(lane) for lane in APSIS_SCENES}
        assert [lane for lane, opened in first.items() if len(opened) == 1] == OPENED
        stage.apsis.configure("polled", {"stuck_at": None})
        killed.come_back()
        await killed.all_have_results(but=True)
        lapsing = [lane for lane, scene in APSIS_SCENES.items() if scene.lapses]
        assert not [lane for lane in lapsing if stage.results.of(lane)], (
            "a slot was taken for free, or another file sent"
        )
        assert [len(told(lane)) for lane in lapsing] == [len(first[lane]) for lane in lapsing]
        assert not [lane for lane in lapsing if any(one.uploads for one in told(lane))]
        for lane in lapsing:
            # The platform's time goes on too.
            stage.apsis.configure(lane, {"upload_life_s": 3 * ORPHANS_LIVE_S})
            for one in stage.apsis.imports(lane):
                one.expires_at = 0.0
        killed.let_time_pass()
        await killed.all_have_results(but=False)
        for lane, results in (await killed.check()).items():
            references = {operation["reference"] for result in results for operation in result.data["operations"]}
            opened = told(lane)
            assert references <= {one.id for one in opened if one.ended == "completed"}, lane
            assert all(one.uploads <= 1 for one in opened), f"{lane}: a file was uploaded twice"
            assert stage.apsis.state(lane)["refused_open"] == 0, f"{lane}: one import too many was asked for"
            if lane in KNOWN:
                assert first[lane][0].id in references, f"{lane}: the import that was open was given up"
            cells = {key[0]: profile["cells"]["newest"] for key, profile in stage.apsis.profiles(lane).items()}
            assert cells == newest_of(killed.feed), lane


ADD = {"action": "add", "key_fields": []}
COPERNICA_SCENES = {
    "before-the-entry": Scene(Point.ENTERING),
    "intended": Scene(Point.INTENDED, lapses=True),
    "create-unanswered": Scene(call="create", effect=True, lapses=True),
    "create-answered": Scene(Point.UPLOADED_UNWRITTEN, lapses=True),
    "uploaded": Scene(Point.UPLOADED),
    "polled": Scene(looks=3),
    "told-its-end": Scene(Point.ENDED),
    "add-before-the-entry": Scene(Point.ENTERING, keys=ADD),
    "add-intended": Scene(Point.INTENDED, keys=ADD, lapses=True, expect=in_doubt),
    "add-create-lost": Scene(call="create", keys=ADD, lapses=True, expect=in_doubt),
    "add-create-unanswered": Scene(call="create", effect=True, keys=ADD, lapses=True, expect=in_doubt),
    "add-create-answered": Scene(Point.UPLOADED_UNWRITTEN, keys=ADD, lapses=True, expect=in_doubt),
    "add-uploaded": Scene(Point.UPLOADED, keys=ADD),
    "add-told-its-end": Scene(Point.ENDED, keys=ADD),
}


async def test_copernica_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Rows that may not be sent twice are in doubt where nobody can ask; those that may are sent once more when the
    slot is free; what has a number is asked about."""
    lanes = {lane: {**COPERNICA, **scene.keys} for lane, scene in COPERNICA_SCENES.items()}
    async with ImportStage(bootstrap_servers, prefix, tmp_path, lanes) as stage:
        stage.copernica.configure("polled", {"stuck": True})
        killed = Killed(stage, COPERNICA_SCENES)
        await killed.up_to_the_points("status", stage.copernica.imports)
        first = {lane: len(stage.copernica.imports(lane)) for lane in COPERNICA_SCENES}
        stage.copernica.configure("polled", {"stuck": False})
        killed.come_back()
        await killed.all_have_results(but=True)
        lapsing = [lane for lane, scene in COPERNICA_SCENES.items() if scene.lapses]
        assert {lane: len(stage.copernica.imports(lane)) for lane in lapsing} == {lane: first[lane] for lane in lapsing}
        killed.let_time_pass()
        await killed.all_have_results(but=False)
        await killed.check()
        for lane, scene in COPERNICA_SCENES.items():
            there = [profile["contact"] for profile in stage.copernica.profiles(lane)]
            rows = contacts_of(killed.feed)
            if not scene.keys:
                rows = list(set(rows))
            elif scene.expect is in_doubt and not first[lane]:
                rows = []
            assert sorted(there) == sorted(rows), lane
            begun = first[lane] + ((scene.lapses and scene.expect is not in_doubt) or scene.point is Point.ENTERING)
            assert len(stage.copernica.imports(lane)) == begun, lane


NP6_SCENES = {
    "before-the-put": Scene(call="import_state"),
    "put-begun": Scene(call="put_source"),
    "put-unanswered": Scene(call="put_source", effect=True),
    "put-answered": Scene(Point.ENTERING),
    "intended": Scene(Point.INTENDED, expect=in_doubt),
    "start-lost": Scene(call="execute_import", expect=in_doubt),
    "start-unanswered": Scene(call="execute_import", effect=True),
    "start-answered": Scene(Point.UPLOADED_UNWRITTEN),
    "uploaded": Scene(Point.UPLOADED),
    "polled": Scene(looks=3),
    "told-its-end": Scene(Point.ENDED),
}


async def test_np6_is_killed(bootstrap_servers: str, prefix: str, tmp_path: Path) -> None:
    """Each row is carried out once; what runs is followed to its end; a start that nobody knows of is in doubt."""
    async with ImportStage(bootstrap_servers, prefix, tmp_path, dict.fromkeys(NP6_SCENES, NP6)) as stage:
        running = ["start-unanswered", "start-answered", "uploaded", "polled"]
        for lane in running:
            # It ends only once the new process has looked.
            stage.np6.configure(lane, {"import_looks": 1_000_000})
        killed = Killed(stage, NP6_SCENES)
        held = {lane: stage.np6._account(lane).imports for lane in NP6_SCENES}
        await killed.up_to_the_points("import_state", lambda lane: held[lane]._sources or held[lane].executed)
        looks = {lane: stage.asked(lane).count("import_state") for lane in running}
        killed.come_back()
        for lane in running:
            await stage.until_asked(lane, "import_state", looks[lane] + 1)
            stage.np6.configure(lane, {"import_looks": 1})
        await killed.all_have_results(but=False)
        await killed.check()
        for lane, scene in NP6_SCENES.items():
            rows = [] if scene.expect is in_doubt else sorted(set(contacts_of(killed.feed)))
            assert sorted(stage.sent(lane)) == rows, lane
