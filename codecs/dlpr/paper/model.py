"""DLPR, the whole model of the paper, as a CompressAI model: LIC, masked convolution, RC and SQRC.

::

    x --> LIC --> x~ --round--> r = x - x~ --+--------------> masked conv -> C_r --> RC (u, C_r) ---------> p(r)
           |                                 +-- Q_tau -> r^ -> the same -> C_r^ -> SQRC (u, C_r^, tau) -> p(r) or P(r^)
           +--> u

In training mode x~, y^ and z^ are relaxed by uniform noise, SQRC sees u and its contexts detached and gives log p(r)
(loss.py). In eval mode everything is rounded and SQRC gives log P(r^), so the sum is what an ideal coder would spend.
What differs from the reference: the channel autoregression of SQRC sees r^ in training too, all that the decoder has.

Images are [b, 3, h, w] in 0..1, as everywhere in CompressAI; residuals and x~ are in levels 0..255 inside.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from compressai.models import CompressionModel
from compressai.registry import register_model
from torch import Tensor, nn

from dlpr.crc import crc32c
from dlpr.errors import ChecksumError, CorruptError, TruncatedError, UnsupportedError, WeightsError
from dlpr.paper.context import MaskedConv, check_scan
from dlpr.paper.entropy_net import ResidualCompressor, ScalableResidualCompressor
from dlpr.paper.fingerprint import PACKED_SIZE, Fingerprint, repeatable_floats, weights_id
from dlpr.paper.lic import LossyImageCompressor
from dlpr.paper.mixture import UNIT, MixtureParameters, quantise
from dlpr.paper.patches import to_patches
from dlpr.paper.profile import LATENT_STRIDE, PaperProfile
from dlpr.paper.residual import decode_residual, encode_residual

LIKELIHOOD_MIN = 1e-9
"""CompressAI's lower bound of a likelihood."""
VERSION = 2
_HEAD = struct.Struct(f"<BBBh{PACKED_SIZE}s8sII")
_AT_FINGERPRINT, _AT_WEIGHTS = 5, 5 + PACKED_SIZE
_AT_PIXELS, _AT_CHECKSUM = _AT_WEIGHTS + 8, _AT_WEIGHTS + 12

Strings = Sequence[Sequence[bytes]]


@register_model("dlpr")
class Dlpr(CompressionModel):  # type: ignore[misc]  # CompressAI has no types
    """Deep lossy plus residual coding, float, as in the paper.

    ``update()``, ``aux_loss()``, ``load_state_dict()`` are CompressAI's, and so are their conventions: ``update()``
    once after training, then ``compress`` and ``decompress``.
    """

    profile: Tensor

    def __init__(self, cfg: PaperProfile | None = None) -> None:
        super().__init__()
        self.cfg = cfg = cfg or PaperProfile()
        self.register_buffer("profile", torch.tensor(cfg.numbers()))  # so that a state dict says what it is of
        self.lic = LossyImageCompressor(cfg)
        self.masked_conv = MaskedConv(3, cfg.hidden, cfg.kernel, cfg.context)
        self.rc, self.sqrc = ResidualCompressor(cfg), ScalableResidualCompressor(cfg)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> Dlpr:
        """Make the model that a state dict belongs to, with its parameters."""
        if "profile" not in state_dict:
            raise WeightsError("no state dict of dlpr.paper: it has no entry 'profile'")
        model = cls(PaperProfile.of_numbers(state_dict["profile"].tolist()))
        model.load_state_dict(state_dict)
        return model

    def context(self, r: Tensor) -> Tensor:
        """C_r [n, P, P, hidden] of residual patches [n, 3, P, P] in levels."""
        c: Tensor = self.masked_conv(r / UNIT)
        return c.permute(0, 2, 3, 1)

    def forward(self, x: Tensor, tau: int = 0) -> dict[str, Any]:
        """Code x.

        Parameters
        ----------
        x : Tensor
            [b, 3, h, w] float32 in 0..1, levels over 255; h and w multiples of 64 and of the patch.
        tau : int
            Bound, in levels, of the near-lossless residual that SQRC codes; 0 leaves SQRC out.

        Returns
        -------
        dict
            As CompressAI's models: "x_hat" [b, 3, h, w] in 0..1, x~ while training (`RateDistortionLoss` then is the
            paper's objective), else what decoding gives; "likelihoods" of "y", "z" and "r" (by SQRC in eval mode with
            ``tau`` >= 1), bounded below by 1e-9. Beside them "x_tilde" in levels, not rounded, and "log_likelihoods",
            natural and unbounded, by "rc" and, with ``tau`` >= 1, "sqrc"; in patches, so compare sums only.
        """
        lossy = self.lic(x)
        levels = x * 255
        noisy = lossy.x_tilde + torch.rand_like(x) - 0.5 if self.training else torch.round(lossy.x_tilde)
        residual = (levels if self.training else torch.round(levels)) - noisy.clamp(0, 255)
        r, u = (to_patches(t, self.cfg.patch) for t in (residual, lossy.u))
        u = u.permute(0, 2, 3, 1)
        parameters = MixtureParameters.of(self.rc(u, self.context(r)), self.cfg.family)
        logs = {"rc": parameters.log_likelihood(r.permute(0, 2, 3, 1))}
        if tau:
            logs["sqrc"] = self._sqrc(u, r.detach(), tau)
        coded = logs["sqrc"] if tau and not self.training else logs["rc"]
        x_hat = lossy.x_tilde / 255
        if not self.training:
            x_hat = (noisy.clamp(0, 255) + quantise(residual, tau)).clamp(0, 255) / 255
        likelihoods = {
            "y": lossy.y_likelihood,
            "z": lossy.z_likelihood,
            "r": coded.exp().clamp_min(LIKELIHOOD_MIN),
        }
        return {"x_hat": x_hat, "likelihoods": likelihoods, "x_tilde": lossy.x_tilde, "log_likelihoods": logs}

    def _sqrc(self, u: Tensor, r: Tensor, tau: int) -> Tensor:
        """Log likelihood [n, P, P, 3] by SQRC from u [n, P, P, features] and residual patches r [n, 3, P, P]."""
        r_hat = quantise(r, tau)
        raw = self.sqrc(u.detach(), self.context(r_hat).detach(), tau)
        parameters = MixtureParameters.of(raw, self.cfg.family)
        last, last_hat = r.permute(0, 2, 3, 1), r_hat.permute(0, 2, 3, 1)
        if self.training:
            return parameters.log_likelihood(last, 0, last_hat)
        return parameters.log_likelihood(last_hat, tau)

    def compress(self, x: Tensor, tau: int = 0, *, spread: float = 7.0, threads: int = 1) -> dict[str, Any]:
        """Code images to bytes; every decoded sample is within ``tau`` levels.

        Parameters
        ----------
        x : Tensor
            [b, 3, h, w] float32 in 0..1, whole levels over 255; h and w multiples of 64 and of the patch.
        tau : int
            Bound in levels, 0..255.
        spread : float
            Standard deviations on each side of the adaptive interval. An escape costs some 13 bits more than the symbol
            would; a wider interval costs 2e-5 bits per sample and symbol: near 7 is best for a Laplace-like residual.
        threads : int
            Of one operation of torch; part of the fingerprint.

        Returns
        -------
        dict
            "strings": those of y, z and r, each with one of each image; "shape": height and width of z. The string of r
            holds tau, the fingerprint and checksums of all three.
        """
        self._check_size(x)
        self._check_floats()
        with repeatable_floats(threads):
            y = self.lic.g_e(x)
            z = self.lic.h_e(y)
            z_strings = self.lic.entropy_bottleneck.compress(z)
            mu, sigma = self.lic.h_d(self.lic.entropy_bottleneck.decompress(z_strings, z.shape[-2:]))
            index = self.lic.gaussian_conditional.build_indexes(sigma)
            y_strings = self.lic.gaussian_conditional.compress(y, index, means=mu)
            levels = torch.round(x * 255)
            r_strings = []
            for i, (y_string, z_string) in enumerate(zip(y_strings, z_strings, strict=True)):
                x_tilde, u = self._lossy(y_string, z_string, z.shape[-2:])
                coded = encode_residual(self, levels[i : i + 1], x_tilde, u, tau, spread)
                mark = Fingerprint.here(x.device, threads).pack()
                head = _HEAD.pack(VERSION, tau, coded.m, coded.centre, mark, self.weights_id(), coded.checksum, 0)
                head = head[:_AT_CHECKSUM]
                check = crc32c(coded.lane, crc32c(z_string, crc32c(y_string, crc32c(head))))
                r_strings.append(head + struct.pack("<I", check) + coded.lane)
        return {"strings": [y_strings, z_strings, r_strings], "shape": z.shape[-2:]}

    def decompress(self, strings: Strings, shape: Sequence[int], *, threads: int = 1) -> dict[str, Tensor]:
        """Undo `compress`: "x_hat" [b, 3, h, w] in 0..1, whole levels over 255.

        Raises
        ------
        dlpr.errors.BitstreamError
            `PlatformError` (reason "platform") for strings from elsewhere, `WeightsError` for those of another model,
            else what their damage is.
        """
        self._check_floats()
        images = []
        with repeatable_floats(threads):
            here = Fingerprint.here(self.profile.device, threads)
            for y_string, z_string, r_string in zip(*strings, strict=True):
                if len(r_string) < _HEAD.size:
                    raise TruncatedError("the residual's string ends within its header", offset=len(r_string))
                version, tau, m, centre, mark, weights, pixels, check = _HEAD.unpack_from(r_string)
                if version != VERSION:
                    raise UnsupportedError(
                        f"version {version} of the paper profile's strings", reason="version", offset=0
                    )
                lane, head = r_string[_HEAD.size :], r_string[:_AT_CHECKSUM]
                if crc32c(lane, crc32c(z_string, crc32c(y_string, crc32c(head)))) != check:
                    raise ChecksumError("the strings are damaged or truncated", offset=_AT_CHECKSUM)
                if not m or abs(centre) > 255:
                    raise CorruptError("a header that no encoder writes", offset=2)
                here.check(mark, _AT_FINGERPRINT)
                if weights != self.weights_id():
                    raise WeightsError(
                        f"the strings need weights {weights.hex()}, this model is {self.weights_id().hex()}",
                        offset=_AT_WEIGHTS,
                    )
                x_tilde, u = self._lossy(y_string, z_string, shape)
                levels, found = decode_residual(self, lane, x_tilde, u, (tau, centre, m))
                if found != pixels:
                    raise ChecksumError("the samples differ from their checksum", reason="pixels", offset=_AT_PIXELS)
                images.append(levels)
            return {"x_hat": torch.cat(images) / 255}

    def _lossy(self, y_string: bytes, z_string: bytes, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """x_tilde in whole levels [1, 3, h, w] and u as rows of patches [p, P, P, features] of one image.

        Encoder and decoder call it alike, image by image, so that their floats agree bit for bit.
        """
        z_hat = self.lic.entropy_bottleneck.decompress([z_string], shape)
        mu, sigma = self.lic.h_d(z_hat)
        index = self.lic.gaussian_conditional.build_indexes(sigma)
        y_hat = self.lic.gaussian_conditional.decompress([y_string], index, means=mu)
        x_tilde, u = self.lic.g_d(y_hat)
        return torch.round(x_tilde).clamp(0, 255), to_patches(u, self.cfg.patch).permute(0, 2, 3, 1).contiguous()

    def weights_id(self) -> bytes:
        """Eight bytes of SHA-256 over the profile, every parameter and the coder's tables."""
        return weights_id(self, self.cfg)

    def _check_size(self, x: Tensor) -> None:
        side = LATENT_STRIDE
        if x.ndim != 4 or x.shape[1] != 3 or any(n % side or n % self.cfg.patch or not n for n in x.shape[2:]):
            raise ValueError(
                f"[b, 3, h, w] with h and w multiples of {side} and {self.cfg.patch} expected, not {x.shape}"
            )

    def _check_floats(self) -> None:
        check_scan(self.cfg.kernel, self.cfg.context, self.cfg.patch)
        if not all(bool(p.isfinite().all()) for p in self.parameters()):
            raise WeightsError("the model has parameters that are not finite; training diverged")

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Parts by their names in the paper."""
        lic = self.lic
        yield from (("g_e", lic.g_e), ("h_e", lic.h_e), ("h_d", lic.h_d), ("g_d trunk", lic.g_d.trunk))
        yield from (("g_d x~ head", lic.g_d.x_head), ("g_d u head", lic.g_d.u_head))
        yield from (("z^ factorised density", lic.entropy_bottleneck), ("masked conv", self.masked_conv))
        yield from (("RC", self.rc), ("SQRC", self.sqrc))

    def parameter_table(self) -> list[tuple[str, int]]:
        """Parameters of each part, and their total."""
        rows = [(name, sum(p.numel() for p in part.parameters())) for name, part in self.parts()]
        return [*rows, ("total", sum(p.numel() for p in self.parameters()))]
