"""PSNR and SSIM by their definitions."""

import numpy as np
import pytest

from trainers.picture_scores import psnr, ssim


def test_psnr_by_hand() -> None:
    true = np.full((2, 16, 16, 3), 100, np.uint8)
    made = true.copy()
    made[0] += 16
    assert psnr(made, true)[0] == pytest.approx(20 * np.log10(255 / 16))
    assert psnr(made, true)[1] > 78
    made[1, 0, 0, 0] += 10
    assert psnr(made, true)[1] == pytest.approx(10 * np.log10(255**2 * 16 * 16 * 3 / 100))


def test_ssim_of_flat_pictures_is_that_of_their_means() -> None:
    true = np.full((1, 16, 16, 3), 100, np.uint8)
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + constant) / (100**2 + 150**2 + constant)
    assert ssim(true + 50, true)[0] == pytest.approx(expected)
    assert ssim(true, true)[0] == pytest.approx(1)


def test_ssim_is_of_structure() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(60, 196, (1, 24, 24, 3)).astype(np.uint8)
    assert ssim(255 - true, true)[0] < 0 < 0.9 < ssim(true + 5, true)[0] < 1
    slightly = np.clip(true + rng.normal(0, 5, true.shape), 0, 255).astype(np.uint8)
    much = np.clip(true + rng.normal(0, 40, true.shape), 0, 255).astype(np.uint8)
    assert 1 > ssim(slightly, true)[0] > ssim(much, true)[0] > 0
    with pytest.raises(ValueError, match="no window of 11"):
        ssim(true[:, :8], true[:, :8])
