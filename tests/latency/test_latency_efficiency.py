"""The formula for one kernel: its limits, its direction and what a datasheet says of power and tensor cores."""

import numpy as np
import pytest

from llmnas.errors import InputError
from llmnas.latency import datasheet, datasheets
from llmnas.latency.efficiency import (
    CONV,
    LINEAR,
    WINOGRAD_GAIN,
    convolution3,
    has_tensor_cores,
    kernel_ms,
    matrix_product,
    power_share,
    roofline_ms,
)

GPUS = [key for key, sheet in datasheets().items() if sheet.kind == "gpu" and sheet.sms is not None]


def _random(size=400):
    rng = np.random.default_rng(0)
    rows, depth, columns = (np.floor(np.exp(rng.uniform(0, 9, size))) for _ in range(3))
    product = matrix_product(rows, depth, columns)
    image = convolution3(1 + rows % 64, 1 + depth % 2000, 1 + columns % 2000, np.floor(rng.uniform(4, 200, size)))
    return (product, LINEAR, 1.0), (image, CONV, WINOGRAD_GAIN)


def test_work_by_hand():
    """A product of 2x3 by 3x5 matrices, and one 4x4 image of 2 channels convolved into 3."""
    one = np.ones(1)
    product = matrix_product(2 * one, 3 * one, 5 * one)
    assert (product.flops[0], product.moved[0]) == (60, 4 * (6 + 15 + 10))
    image = convolution3(one, 2 * one, 3 * one, 4 * one)
    assert (image.flops[0], image.moved[0]) == (2 * 16 * 18 * 3, 4 * (32 + 54 + 48))


@pytest.mark.parametrize("key", GPUS)
def test_never_faster_than_possible(key):
    """No product beats the roofline; a 3x3 convolution beats it by no more than Winograd's fourfold saving."""
    for work, by, gain in _random():
        assert np.all(kernel_ms(datasheet(key), work, by) >= roofline_ms(datasheet(key), work) / gain)


@pytest.mark.parametrize("field", ["rows", "depth", "columns"])
def test_more_work_takes_longer(field):
    """Twice the rows, reduction or columns of a product never take less time."""
    (work, by, _), _ = _random()
    more = work._replace(**{field: 2 * getattr(work, field)})
    for key in ("v100_pcie", "p4"):
        assert np.all(kernel_ms(datasheet(key), more, by) >= kernel_ms(datasheet(key), work, by))


def test_more_images_and_channels_take_longer():
    """Twice the batch, or a multiple of the channels, never convolves in less time."""
    side, rng = np.repeat([7.0, 14, 28, 56], 50), np.random.default_rng(1)
    batch, channels, outputs = (np.floor(np.exp(rng.uniform(0, top, 200))) for top in (4, 7, 7))
    plain = kernel_ms(datasheet("v100_pcie"), convolution3(batch, channels, outputs, side), CONV)
    for more in ((2 * batch, channels, outputs), (batch, 2 * channels, outputs), (batch, channels, 2 * outputs)):
        assert np.all(kernel_ms(datasheet("v100_pcie"), convolution3(*more, side), CONV) >= plain)


def test_a_faster_card_is_faster():
    """A higher peak and bandwidth with the same multiprocessors never take longer."""
    sheet = datasheet("v100_pcie")
    twice = {name: getattr(sheet, name).model_copy(update={"value": 2 * getattr(sheet, name).value})
             for name in ("fp32_tflops", "bandwidth_gbs")}
    for work, by, _ in _random():
        for name, value in twice.items():
            assert np.all(kernel_ms(sheet.model_copy(update={name: value}), work, by)
                          <= kernel_ms(sheet, work, by) + 1e-12)


def test_limits():
    """A call that does next to nothing costs the floor; a huge product reaches the fitted fraction of the peak."""
    one, sheet = np.ones(1), datasheet("v100_pcie")
    assert kernel_ms(sheet, matrix_product(one, one, one), LINEAR)[0] == pytest.approx(LINEAR.floor_ms, rel=.05)
    huge = matrix_product(1e5 * one, 1e5 * one, 1e5 * one)
    assert (huge.flops / 14.03e9 / kernel_ms(sheet, huge, LINEAR))[0] == pytest.approx(LINEAR.products, rel=.01)


def test_power_and_tensor_cores():
    """Low power bounds P4, T4 and L4; Volta and later have tensor cores, Pascal has none."""
    bounded = {key for key in GPUS if power_share(datasheet(key)) < 1}
    assert bounded == {"p4", "t4", "l4"}
    assert power_share(datasheet("l4")) == pytest.approx(72 / 30.3 / (450 / datasheet("rtx_4090").peak.value))
    with_cores = {key for key in ("p4", "p100_pcie", "v100_pcie", "rtx_2080", "rtx_3080", "a40", "l4")
                  if has_tensor_cores(datasheet(key))}
    assert with_cores == {"v100_pcie", "rtx_2080", "rtx_3080", "a40", "l4"}


def test_a_datasheet_without_multiprocessors_is_refused():
    """The message names the file to add them to."""
    with pytest.raises(InputError, match=r"add sms to .*json"):
        kernel_ms(datasheet("cpu"), _random()[0][0], LINEAR)
