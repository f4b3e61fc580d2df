"""The Linux control groups of this process, which limit the resources of containers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath


def control_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """The folders of this process's group and its parents (v1 or v2) for a controller such as `cpu`.

    Empty if there are no control groups. root: the folder that contains /proc and /sys.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:  # not Linux, or no control groups
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounted = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mounted = root / "sys/fs/cgroup" / controller
        else:
            continue
        # In a container the path may be the host's, while the mounted tree begins at the container's own group.
        names = PurePosixPath(path).parts[1:]
        folders += [mounted.joinpath(*names[:depth]) for depth in range(len(names) + 1)]
    return folders
