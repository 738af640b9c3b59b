"""The dense CRF's parameters, by the name of the publication whose code they come from."""

import dataclasses

REFERENCE = 500  # longer side of most of VOC's photographs, in pixels


@dataclasses.dataclass(frozen=True)
class CRFSpec:
    """Weights and widths of the two kernels (Kraehenbuehl & Koltun 2011, Eq. 3); Potts compatibility.

    Attributes:
      bilateral_weight: weight of the position-and-colour kernel.
      bilateral_sigma_xy: its width in pixels.
      bilateral_sigma_rgb: its width in colour steps, the image being 0..255.
      gaussian_weight: weight of the position-only kernel.
      gaussian_sigma_xy: its width in pixels.
      iterations: mean-field updates; 0 leaves the softmax of the logits.
      relative: whether the widths in pixels are those for a longer side of `REFERENCE` and grow with the photograph.
    """

    bilateral_weight: float
    bilateral_sigma_xy: float
    bilateral_sigma_rgb: float
    gaussian_weight: float
    gaussian_sigma_xy: float
    iterations: int
    relative: bool = False


# Kolesnikov & Lampert 2016 (SEC), the CRF inside the loss: DSRG_TEST's widths on a 41 x 41 map
# of a 321 x 321 image (the code divides the positions by 12); DSRG trains with the same.
SEC_TRAIN = CRFSpec(10.0, 80 / 12, 13.0, 3.0, 3 / 12, 10)

# Huang et al. 2018 (DSRG), and SEC before it, at test time and full size.
DSRG_TEST = CRFSpec(10.0, 80.0, 13.0, 3.0, 3.0, 10)
DSRG_RELATIVE = dataclasses.replace(DSRG_TEST, relative=True)  # for photographs of any size: not theirs

# Chen et al. 2015 (DeepLab-LargeFOV, VGG-16).
DEEPLAB_LARGEFOV = CRFSpec(4.0, 49.0, 5.0, 3.0, 3.0, 10)
DEEPLAB_RELATIVE = dataclasses.replace(DEEPLAB_LARGEFOV, relative=True)  # not theirs either

# Chen et al. 2017 (DeepLab-v2, ResNet-101).
DEEPLAB_V2 = CRFSpec(4.0, 67.0, 3.0, 3.0, 1.0, 10)
