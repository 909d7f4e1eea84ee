"""Names for the functions of Envoy's binary, which comes without a symbol table.

It comes with run-time type information, though: each virtual function stands in the table of its class, the class has a name,
and where functions begin and end is known because exceptions must find out. A name reads `Envoy::Router::Filter#6`: the sixth
entry of that class' table (in the order of its declaration). Functions that are not virtual stay without one.
"""

import bisect
import re
import shutil
import struct
import subprocess

RELATIVE = 8  # R_X86_64_RELATIVE
WORD = 8
MANGLED = re.compile(rb"\*?(N|St|S|Z|[0-9])[\w$.]{2,}")


class Sections:
    """Sections of a 64-bit little-endian ELF file by name: (address, offset, size)."""

    def __init__(self, data):
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("no 64-bit little-endian ELF file")
        (start,) = struct.unpack_from("<Q", data, 0x28)
        size, count, names = struct.unpack_from("<HHH", data, 0x3A)
        heads = [struct.unpack_from("<IIQQQQ", data, start + index * size) for index in range(count)]
        text = heads[names][4]
        self.by_name = {data[text + head[0]:data.index(b"\0", text + head[0])].decode(): head[3:6] for head in heads}

    def __getitem__(self, name):
        return self.by_name[name]


class Symbols:
    """`name(address)` of functions, by their address in the file's own terms."""

    def __init__(self, path):
        self.data = path.read_bytes()
        self.sections = Sections(self.data)
        address, offset, _ = self.sections[".text"]
        # What has to be added to an offset in the file.
        self.shift = address - offset
        self.starts = self._starts()
        self.names = self._names()

    def name(self, address):
        """Name of the function around an address; `None` where it has none."""
        place = bisect.bisect_right(self.starts, address) - 1
        return self.names.get(self.starts[place]) if place >= 0 else None

    def _starts(self):
        address, offset, _ = self.sections[".eh_frame_hdr"]
        count = struct.unpack_from("<I", self.data, offset + 8)[0]
        entries = struct.iter_unpack("<ii", self.data[offset + 12:offset + 12 + count * 8])
        return sorted(address + start for start, _ in entries)

    def _pointers(self):
        """What each relocated word of the file points to."""
        _, offset, size = self.sections[".rela.dyn"]
        entries = struct.iter_unpack("<QQq", self.data[offset:offset + size])
        return {place: target for place, info, target in entries if info & 0xFFFFFFFF == RELATIVE}

    def _within(self, section):
        address, _, size = self.sections[section]
        return lambda place: address <= place < address + size

    def _names(self):
        pointers, in_text, in_names = self._pointers(), self._within(".text"), self._within(".rodata")
        address, offset, _ = self.sections[".rodata"]
        types = {}
        for place, target in pointers.items():
            if in_names(target):
                found = MANGLED.match(self.data, target - address + offset)
                if found and self.data[found.end()] == 0:
                    types[place - WORD] = found.group().decode().lstrip("*")
        functions = {}
        for place, target in pointers.items():
            # A table: the class, then its functions.
            number = 0
            while target in types and in_text(pointers.get(place + WORD * (number + 1), 0)):
                known = functions.setdefault(pointers[place + WORD * (number + 1)], (types[target], number))
                if len(types[target]) < len(known[0]):
                    functions[pointers[place + WORD * (number + 1)]] = (types[target], number)
                number += 1
        plain = demangled(sorted({name for name, _ in functions.values()}))
        return {function: f"{plain[name]}#{number}" for function, (name, number) in functions.items()}


def demangled(names):
    tool = shutil.which("c++filt")
    if not tool:
        return dict(zip(names, names))
    text = subprocess.run([tool, "-t"], input="\n".join(names), text=True, capture_output=True, check=True).stdout
    return dict(zip(names, text.split("\n")))
