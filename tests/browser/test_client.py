"""The browser client as a module for other pages, its video chunks, and the types of all modules."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
from pathlib import Path

import av
import pytest

from service.api.hello import HelloMessage
from tests.browser.chromium import browse, needs_chromium
from tests.servers import ServerProcess

WEB = Path(__file__).parents[2] / "service/web"
_ENCODE = """(async () => {
    const {videoEncoder, chooseVideo} = await import("/encoders.js");
    if (!(await chooseVideo(CODEC))) return null;
    const chunks = [];
    const encoder = videoEncoder((timestamp, bytes) => chunks.push([timestamp, ...bytes]), {
        video: CODEC, longest: 200, failed: (error) => { throw error; }
    });
    const canvas = new OffscreenCanvas(401, 300), pen = canvas.getContext("2d");
    for (let n = 0; n < 6; n++) {
        while (encoder.busy) await new Promise((resolve) => setTimeout(resolve, 1));
        pen.fillStyle = `rgb(${40 * n} 120 60)`;
        pen.fillRect(0, 0, 401, 300);
        if (n === 4) encoder.requestKeyFrame();
        await encoder.encode(canvas, 1000 + 33.25 * n);
    }
    while (chunks.length < 6) await new Promise((resolve) => setTimeout(resolve, 5));
    encoder.close();
    return chunks.map(([timestamp, flags, ...bytes]) => [timestamp, flags, btoa(String.fromCharCode(...bytes))]);
})()"""

_TIMELINE = """(async () => {
    const {Timeline} = await import("/page/timeline.js");
    const timeline = new Timeline();
    for (const [time, x] of [[1000, 0], [1033, 33]]) {
        const people = [{id: 1, score: 1, box: [x, 0, x + 10, 10], keypoints: [[x, 5, 1]]}];
        timeline.add({time, people, width: 99, height: 99}, 30, 33);
    }
    const left = (time) => timeline.at(time).map(({keypoints}) => Math.round(keypoints[0][0]));
    return [timeline.delay, ...[999, 1000, 1011, 1033, 1053, 1200, 1800].map(left)];
})()"""


@needs_chromium
@pytest.mark.parametrize(("codec", "decoder"), [("vp8", "vp8"), ("vp9", "vp9"), ("h264", "h264"), ("av1", "libdav1d")])
def test_chunks_of_video_can_be_decoded_and_key_frames_are_marked(
    codec: str, decoder: str, server: ServerProcess
) -> None:
    async def scenario() -> list[tuple[float, int, str]] | None:
        async with browse(server.url) as page:
            chunks: list[tuple[float, int, str]] | None = await page.evaluate(_ENCODE.replace("CODEC", repr(codec)))
            return chunks

    chunks = asyncio.run(scenario())
    if chunks is None:
        pytest.skip(f"this browser does not encode {codec}")
    assert [timestamp for timestamp, *_ in chunks] == [1000 + 33.25 * n for n in range(6)]
    assert [flags for _, flags, _ in chunks] == [1, 0, 0, 0, 1, 0]
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, av.VideoCodecContext)
    frames = [frame for *_, data in chunks for frame in context.decode(av.Packet(base64.b64decode(data)))]
    frames += context.decode(None)
    assert len(frames) == 6
    assert {(frame.width, frame.height) for frame in frames} == {(200, 150)}
    reds = [float(frame.to_ndarray(format="rgb24")[75, 100, 0]) for frame in frames]
    assert reds == sorted(reds)
    assert reds[-1] > reds[0] + 100


@needs_chromium
def test_the_client_finds_people_and_explains_errors(server: ServerProcess, picture: Path) -> None:
    jpeg = base64.b64encode(picture.read_bytes()).decode()
    script = f"""(async () => {{
        const {{Client, ProblemError}} = await import("/client.js");
        const bytes = Uint8Array.from(atob({jpeg!r}), (letter) => letter.charCodeAt(0)), client = new Client();
        const {{people, model}} = await client.pose(bytes, {{model: "hand"}});
        const drawn = await client.draw(bytes, {{}}, {{type: "image/png"}});
        const error = await client.pose(new Blob(["?"])).catch((error) => error);
        const known = error instanceof ProblemError;
        return [people.length, model, drawn.type, known, error.status, error.type, (await client.models()).length];
    }})()"""

    async def scenario() -> list[object]:
        async with browse(server.url) as page:
            found: list[object] = await page.evaluate(script)
            # Between results people are interpolated, after the last one they move on, stand still, and go.
            assert await page.evaluate(_TIMELINE) == [30, [], [0], [11], [33], [53], [73], []]
            return found

    assert asyncio.run(scenario()) == [1, "hand", "image/png", True, 415, "/problems/not-an-image", 3]


@needs_chromium
def test_a_stream_ends_with_an_error_or_when_it_is_closed(server: ServerProcess) -> None:
    script = """(async () => {
        const {Client, StreamError} = await import("/client.js");
        const client = new Client(), seen = [];
        const refused = client.stream({model: "none"});
        try { for await (const _ of refused); } catch (error) { seen.push(error instanceof StreamError, error.code); }
        const Whole = Worker; // one that fails: then the page itself makes the JPEGs
        globalThis.Worker = class extends Whole { constructor() { super("/models", {type: "module"}); } };
        const canvas = new OffscreenCanvas(192, 256), stream = client.stream({window: 1});
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        const timer = setInterval(() => stream.send(canvas, 1000 * (seen.length + 1)), 20);
        for await (const {type, people} of stream) {
            if (type === "error") continue;  // a busy machine may answer a frame too late
            seen.push(people.length);
            if (seen.length === 5) stream.change({zones: [{name: "a", polygon: [[0, 0], [1, 0], [1, 1]]}]});
            if (seen.length === 8) stream.close();
        }
        clearInterval(timer);
        return [...seen, stream.welcome.resumed];
    })()"""

    async def scenario() -> list[object]:
        async with browse(server.url) as page:
            found: list[object] = await page.evaluate(script)
            return found

    assert asyncio.run(scenario()) == [True, 4404, 1, 1, 1, 1, 1, 1, True]


@needs_chromium
def test_compressed_video_is_sent_where_the_server_takes_it_and_pictures_elsewhere(
    server: ServerProcess, camera: tuple[str, ...]
) -> None:
    script = """(async () => {
        const {Client, openCamera} = await import("/client.js");
        const stream = new Client().stream({smoothing: true}, {video: "vp8"});
        stream.film(await openCamera());
        let results = 0;
        for await (const {people} of stream) if (people.length === 1 && ++results === 5) stream.close();
        return [results, stream.video];
    })()"""

    async def scenario() -> list[object]:
        async with browse(server.url, options=camera) as page:
            found: list[object] = await page.evaluate(script)
            return found

    takes_video = "video" in HelloMessage.model_fields
    assert asyncio.run(scenario()) == [5, "vp8" if takes_video else ""]


def test_the_types_of_all_modules_are_right(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs npm")
    install = [npm, "install", "--prefix", str(tmp_path), "--silent", "--no-audit", "typescript@5.9"]
    try:
        done = subprocess.run(install, capture_output=True, check=False, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("needs npm's registry, which does not answer")
    if done.returncode:
        pytest.skip(f"needs npm's registry: {done.stderr.decode()[-200:]}")
    compiler = [node, str(tmp_path / "node_modules/typescript/bin/tsc")]
    options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--target", "es2022", "--module", "es2022"]
    options += ["--moduleResolution", "bundler", "--lib", "es2023,dom,dom.iterable,dom.asynciterable"]
    files = [str(WEB / "client.js"), str(WEB / "page/main.js")]
    checked = subprocess.run([*compiler, *options, *files], capture_output=True, check=False, encoding="utf-8")
    assert checked.stdout == ""
