"""Bytes and tensors that no one should send: each gets an answer or a clean refusal, and the process lives."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.serving import verify
from tests import tiny_run
from tests.serving import servers


def _file(file_format, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(tiny_run.photograph(24, 31, 3)).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


def _deep():
    """A 16-bit PNG: greys."""
    buffer = io.BytesIO()
    Image.fromarray((np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width, height, data=b"", colour=2):
    """A PNG whose header says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


WHOLE = [_file("JPEG", quality=90), _file("JPEG", progressive=True), _file("JPEG", "L"), _file("JPEG", "CMYK"),
         _file("PNG"), _file("PNG", "P"), _file("PNG", "L"), _file("PNG", "RGBA"), _file("PNG", "1"), _deep()]


def _mutated(rng):
    """One of the files, changed in one to five places: bytes, cuts, repeats, numbers of headers, another's parts."""
    data = bytearray(WHOLE[rng.integers(len(WHOLE))])
    for _ in range(rng.integers(1, 6)):
        place, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 20))
        change = rng.integers(6)
        if change == 0 and place < len(data):
            data[place] ^= 1 << int(rng.integers(8))
        elif change == 1:
            del data[place:]
        elif change == 2:
            del data[place:place + length]
        elif change == 3:
            data[place:place] = rng.integers(0, 256, length, np.uint8).tobytes()
        elif change == 4:
            donor = WHOLE[rng.integers(len(WHOLE))]
            start = int(rng.integers(len(donor)))
            data[place:place + length] = donor[start:start + length]
        elif len(data) > 24:  # sizes, with the checksum made right, so that it is believed
            data[16:24] = struct.pack(">II", *(int(rng.choice([0, 1, 24, 31, 2**16, 2**31 - 1, 2**32 - 1]))
                                               for _ in range(2)))
            data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return _believable(data) if data[:4] == b"\x89PNG" and rng.integers(2) else bytes(data)


def _believable(data):
    """A PNG whose chunks' checksums are made right, so that what is wrong in them is read."""
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place:place + 4], "big")
        if end + 4 > len(data):
            break
        data[end:end + 4] = struct.pack(">I", zlib.crc32(bytes(data[place + 4:end])))
        place = end + 4
    return bytes(data)


def _fuzz_files(served, count, seed):
    """Asks with mutated files; returns how many were answered."""
    rng, answered = np.random.default_rng(seed), 0
    for _ in range(count):
        try:
            answer = served.run("serve_jpeg", {"image": np.array([_mutated(rng)], object)})
        except servers.Refused as error:
            assert str(error)
            continue
        answered += 1
        assert verify.decode_ids(answer["label_png_bytes"][0]).shape == tuple(answer["size"][0])
        assert answer["fractions"].sum() == pytest.approx(1, abs=1e-4)
    return answered


def _fuzz_tensors(served, count, seed):
    rng, answered = np.random.default_rng(seed), 0

    def rows(n):
        return int(rng.choice([n, n, n, n, 0, 1, 3]))

    for _ in range(count):
        n, shape = int(rng.choice([0, 1, 1, 2, 33])), rng.choice([0, 1, 2, 9, 40], 2, p=[.1, .2, .2, .3, .2])
        name = str(rng.choice(["serving_default", "serve_crf", "localization_maps"]))
        inputs = {"images": rng.integers(0, 256, (n, *shape, 3)).astype(rng.choice([np.uint8] * 9 + [np.float32]))}
        if name == "serve_crf":
            inputs["iterations"] = rng.choice([-1, 0, 1, 3, 101], rows(n), p=[.05, .3, .3, .3, .05]).astype(np.int32)
        elif name == "localization_maps":
            inputs["tags"] = rng.choice([0, 1, np.nan, np.inf, -1], (rows(n), 3)).astype(np.float32)
            inputs["seed"] = rng.integers(-2**31, 2**31, (rows(n), 2)).astype(np.int32)
            inputs["num_maps"] = rng.choice([0, 1, 11, 1001], rows(n), p=[.05, .45, .45, .05]).astype(np.int32)
        try:
            answer = served.run(name, inputs)
        except servers.Refused as error:
            assert str(error)
            continue
        answered += 1
        assert all(len(value) == n and np.isfinite(value).all() for value in answer.values())
    return answered


def _memory():
    """Bytes that this process has held at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_mutated_files(served):
    assert 10 < _fuzz_files(served, 300, 0) < 290


def test_odd_tensors(served):
    assert 30 < _fuzz_tensors(served, 150, 0) < 130


@pytest.mark.slow
def test_ten_thousand_mutated_files_and_odd_tensors(served):
    _fuzz_files(served, 300, 1)
    before = _memory()
    assert _fuzz_files(served, 10000, 2) > 500 and _fuzz_tensors(served, 2000, 2) > 100
    assert _memory() - before < 2**29


@pytest.mark.parametrize("number", range(len(WHOLE)))
def test_whole_files_of_every_mode_are_answered(served, number):
    answer = served.run("serve_jpeg", {"image": np.array([WHOLE[number]], object)})
    assert answer["size"].tolist() == [[20, 30] if number == len(WHOLE) - 1 else [24, 31]]


def test_bombs_are_refused_by_their_headers(served):
    zeros = zlib.compress(bytes(2**24), 9)  # 16 KB that unfold to 16 MB
    big = io.BytesIO()
    Image.new("L", (5000, 4000)).save(big, "JPEG")
    sizes = [(30000, 30000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (0, 5)]
    bombs = [*(_png(*size, zeros) for size in sizes), big.getvalue()]
    before = _memory()
    for bomb in bombs:
        with pytest.raises(servers.Refused, match="expected 1 to 16777216 pixels, found height and width"):
            served.run("serve_jpeg", {"image": np.array([bomb], object)})
    assert _memory() - before < 2**27
    answer = served.run("serve_jpeg", {"image": np.array([_png(100, 100, zeros)], object)})  # more data than pixels
    assert answer["size"].tolist() == [[100, 100]] and _memory() - before < 2**27


def test_one_pixel_and_too_many(served):
    assert served.run("serving_default", {"images": np.zeros((1, 1, 1, 3), np.uint8)})["labels"].shape == (1, 1, 1)
    assert served.run("serving_default", {"images": np.zeros((1, 1, 3000, 3), np.uint8)})["labels"].shape[2] == 3000
    iterations = {"iterations": np.ones(1, np.int32)}
    tags = {"tags": np.ones((1, 3), np.float32), "seed": np.zeros((1, 2), np.int32),
            "num_maps": np.ones(1, np.int32)}
    before = _memory()
    too_many = np.broadcast_to(np.uint8(0), (1, 4000, 5000, 3)).copy()  # 20 million pixels
    for name, inputs in (("serving_default", {}), ("serve_crf", iterations), ("localization_maps", tags)):
        with pytest.raises(servers.Refused, match="expected at most .* pixels"):
            served.run(name, {"images": too_many, **inputs})
    with pytest.raises(servers.Refused, match="expected at most 32 in one request"):
        served.run("serving_default", {"images": np.zeros((10000, 1, 1, 3), np.uint8)})
    with pytest.raises(servers.Refused, match="expected 1 to 32 in one request"):
        served.run("serve_jpeg", {"image": np.array([WHOLE[4]] * 33, object)})
    assert _memory() - before < 2**28
