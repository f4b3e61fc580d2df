"""A real RTSP server, GStreamer's: python3 tests/rtsp_server.py WIDTH HEIGHT CODEC [USER PASSWORD] [PORT]

Runs in the system's Python, which has Debian's bindings of GStreamer. Serves a moving test picture at
rtsp://127.0.0.1:PORT/live, and prints PORT once it listens. CODEC: h264 or jpeg.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - after the versions

_ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def main(width: str, height: str, codec: str, user: str = "", password: str = "", port: str = "0") -> None:
    """Serve until this process is killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate=20/1"
    factory.set_launch(f"( videotestsrc is-live=true pattern=ball ! {caps} ! {_ENCODERS[codec]} )")
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
