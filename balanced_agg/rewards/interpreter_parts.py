"""What this Python needs of the files around it, as JSON: ``python -S interpreter_parts.py PACKAGES MODULE…``

- folders: what it imports the standard library from
- others: where further packages would be installed
- libraries: the shared libraries that it loads for the extension modules of the standard library and for the named
  modules in PACKAGES (folders)

Runs outside of a sandbox and imports only the standard library and those modules.
"""

import ctypes
import importlib
import json
import os
import site
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def main(packages: str, *modules: str) -> None:
    folders = [folder for folder in sys.path if Path(folder).exists()]
    for file in (file for folder in folders if Path(folder).is_dir() for file in Path(folder).iterdir()):
        if file.name.endswith(tuple(EXTENSION_SUFFIXES)):
            with suppress(ImportError):  # no program can import it either
                importlib.import_module(file.name.partition(".")[0])
    sys.path += packages.split(os.pathsep)
    for name in modules:
        importlib.import_module(name)
    if "numpy" in modules:
        import numpy

        numpy.linalg.inv(numpy.eye(2))  # some of its libraries load others when they are first used
    others = site.getsitepackages([sys.prefix, sys.exec_prefix])
    print(json.dumps({"folders": folders, "others": others, "libraries": loaded()}))


def loaded() -> list[str]:
    """The shared libraries of this process, under the paths by which the dynamic linker found them."""

    class Info(ctypes.Structure):  # how struct dl_phdr_info begins
        _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))

    names = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
    def note(info, size, data):
        names.append(os.fsdecode(info.contents.name or b""))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(note, None)
    return sorted(os.path.normpath(name) for name in names if name.startswith("/"))


if __name__ == "__main__":
    main(*sys.argv[1:])
