// What a JPEG image lacks of the pixels (docs/format section 19). Python twin: codecs/dlpr/modes/jpeg/residual.py.
#pragma once
#include "jpeg/coefficients.hpp"

namespace dlpr {

// Inputs' contexts: of the flags of blocks, then of the samples of three channels.
constexpr int kFlagContexts[kInputs] = {1, 4, 16, 64, 5, 4, 16, 1};
constexpr int kSampleContexts[kInputs] = {36, 147, 36, 468, 144, 144, 192, 108};

// Symbols q [H][W][channels]; `jpeg` holds the JPEG's samples in the same order. The decoder's q holds zeros.
template <class Coder>
class ResidualCoder {
 public:
  ResidualCoder(Coder& coder, const JpegFields& f, const uint8_t* jpeg)
      : coder_(coder), f_(f), jpeg_(jpeg), n_(f.components), mix_(coder, sizes().data(), 28, 17) {}

  bool run(int16_t* q) {
    const int top = f_.phase_y >> 3, start = f_.phase_x >> 3, end_y = (f_.phase_y + f_.H + 7) >> 3,
              end_x = (f_.phase_x + f_.W + 7) >> 3;
    std::vector<uint8_t> above(size_t(end_x - start) + 2), row(above.size());
    for (int by = top; by < end_y; ++by) {
      for (int bx = start; bx < end_x; ++bx) {
        const int y0 = std::max(8 * by - f_.phase_y, 0), y1 = std::min(8 * by + 8 - f_.phase_y, f_.H),
                  x0 = std::max(8 * bx - f_.phase_x, 0), x1 = std::min(8 * bx + 8 - f_.phase_x, f_.W);
        const int i = bx - start + 1, l = row[i - 1], a = above[i], al = above[i - 1], ar = above[i + 1];
        const int sides = (y0 == 0) | (x0 == 0) << 1 | (y1 == f_.H) << 2 | (x1 == f_.W) << 3;
        bool any = false;
        if (!Coder::kDecodes)
          for (int y = y0; y < y1; ++y)
            for (int k = x0 * n_; k < x1 * n_; ++k) any |= q[size_t(y) * f_.W * n_ + k] != 0;
        const int context[kInputs] = {
            0, 2 * l + a, sides, 4 * sides + 2 * l + a, a + l + al + ar, 2 * al + ar, 8 * l + 4 * a + 2 * al + ar, 0};
        std::copy(context, context + kInputs, mix_.context);
        row[i] = uint8_t(mix_.flag(any, 27, 16));
        if (row[i])
          for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x)
              for (int c = 0; c < n_; ++c) sample(q, y, x, c);
        if (Coder::kDecodes && (mix_.bad() || overrun(coder_))) return false;
      }
      above = row;
      std::fill(row.begin(), row.end(), uint8_t(0));
    }
    return true;
  }

 private:
  static bool overrun(const BitDecoder& d) { return d.overrun(); }
  static bool overrun(const BitEncoder&) { return false; }
  static std::vector<int> sizes() {
    std::vector<int> n(kInputs);
    for (int i = 0; i < kInputs; ++i) n[i] = kFlagContexts[i] + kSampleContexts[i];
    return n;
  }

  void sample(int16_t* q, int y, int x, int c) {
    const size_t stride = size_t(f_.W) * n_, at = y * stride + size_t(x) * n_ + c;
    const int w = x ? q[at - n_] : 0, n = y ? q[at - stride] : 0, nw = x && y ? q[at - stride - n_] : 0,
              p1 = c ? q[at - 1] : 0, p2 = c == 2 ? q[at - 2] : 0;
    const int s1 = std::abs(w) + std::abs(n), s2 = s1 + std::abs(nw), l1 = jpeg_level(s1), l2 = jpeg_level(s2),
              m = std::abs(p1), lead = w ? w : n, other = p1 ? p1 : p2;
    const int sign = lead < 0 ? -1 : 1,
              far = std::min(std::min(std::min(x, f_.W - 1 - x), std::min(y, f_.H - 1 - y)), 3), v = jpeg_[at],
              end = v == 0     ? 1
                    : v == 255 ? 2
                               : 0;
    const int context[kInputs] = {12 * c + l1,
                                  (7 * c + sign * limited(w, 3) + 3) * 7 + sign * limited(n, 3) + 3,
                                  12 * c + jpeg_level(m),
                                  (12 * c + jpeg_level(m)) * 13 + (other < 0 ? -1 : 1) * limited(p2, 6) + 6,
                                  (4 * c + far) * 12 + l2,
                                  (12 * c + l2) * 4 + std::min(3, m),
                                  64 * c + 8 * ((f_.phase_y + y) & 7) + ((f_.phase_x + x) & 7),
                                  (3 * c + end) * 12 + l1};
    for (int i = 0; i < kInputs; ++i) mix_.context[i] = kFlagContexts[i] + context[i];
    mix_.mirror = (lead < 0 ? 2u : 0u) | (p1 < 0 ? 4u : 0u) | (other < 0 ? 8u : 0u) | (w + n < 0 ? 32u : 0u);
    const int value = mix_.number(q[at], true, 9 * c, std::min(3, l2) + 4 * std::min(3, m), c);
    if (value < -255 || value > 255) return mix_.fail();
    if (Coder::kDecodes) q[at] = int16_t(value);
  }

  Coder& coder_;
  const JpegFields& f_;
  const uint8_t* jpeg_;
  int n_;
  MixedCoder<Coder> mix_;
};

}  // namespace dlpr
