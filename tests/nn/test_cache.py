"""Keys and values that are kept between calls."""

import torch

from glassrun.nn.cache import Cache, KeysAndValues, KeyValueCache

BATCH, HEADS, D_K = 2, 3, 5


def draw(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCH, HEADS, length, D_K, generator=generator) for _ in range(2)]


def test_what_is_written_comes_back_in_order():
    cache, parts, done = KeyValueCache(), [], 0
    for length in (3, 1, 1, 7, 2):
        parts.append(draw(length, length + done))
        kept = cache.write(*parts[-1])
        done += length
        cache.length = done
        for found, of in zip(kept, zip(*parts, strict=True), strict=True):
            assert torch.equal(found, torch.cat(of, 2))


def test_what_is_not_counted_is_written_over():
    cache = KeyValueCache()
    cache.write(*draw(2, 1))
    first, second = cache.write(*draw(3, 2)), draw(3, 2)
    assert all(torch.equal(found, new) for found, new in zip(first, second, strict=True))


def test_buffers_double_so_that_few_are_made():
    cache, buffers = KeyValueCache(), set()
    for place in range(100):
        cache.write(*draw(1, place))
        cache.length += 1
        buffers.add(cache.kept.keys.data_ptr())
    assert cache.kept.keys.shape[-2] == 128
    assert len(buffers) <= 8


def test_a_buffer_has_the_type_of_its_keys():
    cache = KeyValueCache()
    assert cache.write(*(x.bfloat16() for x in draw(2, 1))).keys.dtype == torch.bfloat16


def test_select_takes_rows_of_every_layer():
    cache = Cache(num_layers=2)
    drawn = [draw(4, layer) for layer in range(2)]
    for layer, new in zip(cache.layers, drawn, strict=True):
        layer.tokens.write(*new)
        layer.memory = KeysAndValues(*draw(6, 10))
    cache.advance(4)
    cache.select(torch.tensor([1, 1, 0]))
    assert cache.length == 4
    for layer, (keys, values) in zip(cache.layers, drawn, strict=True):
        more = draw(1, 5)
        kept = layer.tokens.write(*(x[[0, 1, 0]] for x in more))
        assert torch.equal(kept.keys[:, :, :4], keys[[1, 1, 0]])
        assert torch.equal(kept.values[:, :, :4], values[[1, 1, 0]])
        assert torch.equal(layer.memory.keys, draw(6, 10)[0][[1, 1, 0]])
