"""How like two pictures are: PSNR and SSIM, of uint8 pictures [N, H, W, 3], one number a picture."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
ALIKE = 1e-3  # the mean squared error that equal pictures are taken to have: 78 dB, not infinity


def psnr(made: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Peak signal to noise ratio in dB, over all pixels and channels: float64 [N]."""
    apart = made.astype(np.float64) - true
    error = np.square(apart).mean(axis=(1, 2, 3))
    ratio: npt.NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, ALIKE))
    return ratio


def ssim(made: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Structural similarity (Wang et al. 2004): a Gaussian window of 11, the mean over all whole windows and
    channels: float64 [N]. Raises ValueError for pictures smaller than the window."""
    if min(true.shape[1:3]) < WINDOW:
        raise ValueError(f"pictures of {true.shape[2]} x {true.shape[1]} have no window of {WINDOW}")
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    line /= line.sum()
    window = torch.outer(line, line)[None, None]

    def blurred(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x.flatten(0, 1)[:, None], window).unflatten(0, x.shape[:2])

    a, b = (torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2) for x in (made, true))
    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    like = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    like /= (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
    found: npt.NDArray[np.float64] = like.flatten(1).mean(1).numpy()
    return found
