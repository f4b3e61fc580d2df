"""A real RTSP server, GStreamer's.

python3 tests/rtsp_server.py WIDTH HEIGHT CODEC [USER PASSWORD [PORT [HOST [LOSS [FPS]]]]]

Runs in the system's Python, which has Debian's bindings of GStreamer. Serves a moving test picture at
rtsp://HOST:PORT/live, and prints PORT once it listens. CODEC: h264, h265 or jpeg. LOSS: 0..1, the part of the RTP
packets that are not sent.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - after the versions

_ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph265pay name=pay0 pt=96",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def main(
    width: str,
    height: str,
    codec: str,
    user: str = "",
    password: str = "",
    port: str = "0",
    host: str = "127.0.0.1",
    loss: str = "0",
    fps: str = "20",
) -> None:
    """Serve until this process is killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address=host, service=port)
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    encoder = _ENCODERS[codec]
    if float(loss):  # the server takes the last element as the payloader, so that it is the one that is renamed
        encoder = encoder.replace("name=pay0 ", "") + f" ! identity name=pay0 drop-probability={loss}"
    factory.set_launch(f"( videotestsrc is-live=true pattern=ball ! {caps} ! {encoder} )")
    if user:
        auth, token, access = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken(), GstRtspServer.RTSPPermissions()
        token.set_string("media.factory.role", "watcher")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        access.add_permission_for_role("watcher", "media.factory.access", True)
        access.add_permission_for_role("watcher", "media.factory.construct", True)
        factory.set_permissions(access)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


main(*sys.argv[1:])
