import torch

from studio.layers.checksum import checksum


def test_every_bit_counts():
    data = torch.arange(70_000, dtype=torch.float32)
    before = checksum(data)
    assert before == checksum(data.clone())
    words = data.view(torch.int32)
    for place in (0, 1, 8191, 16_384, 65_535, 69_999):
        for bit in (0, 15, 31):
            words[place] ^= torch.tensor(1 << bit if bit < 31 else -(2**31), dtype=torch.int32)
            assert checksum(data) != before
            words[place] ^= torch.tensor(1 << bit if bit < 31 else -(2**31), dtype=torch.int32)
    assert checksum(data) == before


def test_length_order_and_strides_count():
    data = torch.randn(6, 40)
    assert checksum(data) != checksum(torch.cat([data.flatten(), torch.zeros(1)]))
    assert checksum(data) != checksum(data.flatten().flip(0))
    assert checksum(data.T) == checksum(data.T.contiguous())
    assert checksum(data.flatten()[1:]) == checksum(data.flatten()[1:].clone())
