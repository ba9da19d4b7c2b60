// What a lossy image lacks of the pixels (docs/format section 19). Included once for each instruction set by coder.inl.
// Python twin: codecs/dlpr/modes/mixed/residual.py.

// Inputs' contexts: of the flags of blocks, then of the samples of three channels.
constexpr int kFlagContexts[kInputs] = {1, 4, 16, 64, 5, 4, 16, 1};
constexpr int kSampleContexts[kInputs] = {36, 147, 36, 468, 144, 144, 192, 108};
constexpr int kDoubtContexts[kInputs] = {384, 147, 384, 468, 288, 144, 768, 108};  // where doubts are known
constexpr int kResidualSlots = 16;  // of a context: zero, sign, 7 of the magnitude if the sign is as expected, 7 if not

// Symbols q [H][W][channels]; `lossy` holds the lossy image's samples in the same order. The decoder's q holds zeros.
// With doubts, how near each sample came to the next one (j2k_doubt) is among the contexts.
template <class Coder, bool kDoubts = false>
class ResidualCoder {
 public:
  ResidualCoder(Coder& coder, const ResidualArea& f, const uint8_t* lossy, const uint8_t* doubts = nullptr)
      : coder_(coder),
        f_(f),
        lossy_(lossy),
        doubts_(doubts),
        n_(f.components),
        mix_(coder, slots(), 28, kSets + 1, nullptr) {
    uint32_t* p = mix_.slots();
    for (int i = 0; i < kInputs; ++i) base_[i] = p, p += size_t(kFlagContexts[i] + kOwn[i]) * kResidualSlots;
    golomb_ = p;
  }

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
        Inputs p;
        for (int k = 0; k < kInputs; ++k) p[k] = base_[k] + kResidualSlots * context[k];
        row[i] = uint8_t(mix_.bit(any, p, 27, kSets));
        if (row[i])
          for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x)
              for (int c = 0; c < n_; ++c) sample(q, y, x, c);
        if (Coder::kDecodes && (bad_ || coder_.overrun())) return false;
      }
      above = row;
      std::fill(row.begin(), row.end(), uint8_t(0));
    }
    return true;
  }

 private:
  static constexpr const int (&kOwn)[kInputs] = kDoubts ? kDoubtContexts : kSampleContexts;
  static constexpr int kSets = kDoubts ? 32 : 16;  // of the second family, without the flags'

  static size_t slots() {
    size_t n = 3 * 32;
    for (int i = 0; i < kInputs; ++i) n += size_t(kFlagContexts[i] + kOwn[i]) * kResidualSlots;
    return n;
  }

  void sample(int16_t* q, int y, int x, int c) {
    const size_t stride = size_t(f_.W) * n_, at = y * stride + size_t(x) * n_ + c;
    const int w = x ? q[at - n_] : 0, n = y ? q[at - stride] : 0, nw = x && y ? q[at - stride - n_] : 0,
              p1 = c ? q[at - 1] : 0, p2 = c == 2 ? q[at - 2] : 0;
    const int s1 = std::abs(w) + std::abs(n), s2 = s1 + std::abs(nw), l1 = level(s1), l2 = level(s2), m = std::abs(p1),
              lead = w ? w : n, other = p1 ? p1 : p2;
    const int sign = lead < 0 ? -1 : 1, edge = std::min(std::min(x, f_.W - 1 - x), std::min(y, f_.H - 1 - y)),
              far = std::min(edge, 3), v = lossy_[at],
              end = v == 0     ? 1
                    : v == 255 ? 2
                               : 0;
    int context[kInputs] = {12 * c + l1,
                            (7 * c + sign * limited(w, 3) + 3) * 7 + sign * limited(n, 3) + 3,
                            12 * c + level(m),
                            (12 * c + level(m)) * 13 + (other < 0 ? -1 : 1) * limited(p2, 6) + 6,
                            (4 * c + far) * 12 + l2,
                            (12 * c + l2) * 4 + std::min(3, m),
                            64 * c + 8 * ((f_.phase_y + y) & 7) + ((f_.phase_x + x) & 7),
                            (3 * c + end) * 12 + l1};
    uint32_t mirror = (lead < 0 ? 2u : 0u) | (p1 < 0 ? 4u : 0u) | (other < 0 ? 8u : 0u) | (w + n < 0 ? 32u : 0u);
    int second = std::min(3, l2) + 4 * std::min(3, m);
    if (kDoubts) {
      const int doubt = 32 * c + (doubts_[at] & 31), inner = std::min(edge ? 32 - __builtin_clz(unsigned(edge)) : 0, 7);
      context[0] = 4 * doubt + std::min(3, l1), context[2] = 4 * doubt + std::min(3, m);
      context[4] = 12 * (8 * c + inner) + l2, context[6] = 8 * doubt + inner;
      second = std::min(3, l2) + 4 * ((doubts_[at] & 31) >> 2);
      if (doubts_[at] & 128) mirror |= 65u;
    }
    Inputs p;
    for (int i = 0; i < kInputs; ++i) p[i] = base_[i] + kResidualSlots * (kFlagContexts[i] + context[i]);
    const int first = 9 * c, value = q[at];
    if (!mix_.bit(value != 0, p, first, second)) return;
    for (auto& slot : p) ++slot;
    const int minus = mix_.template bit<true>(value < 0, p, first + 1, second, mirror);
    const uint32_t against = minus ? ~mirror : mirror;
    for (int i = 0; i < kInputs; ++i) p[i] += against >> i & 1 ? 1 + kUnary : 1;
    const int size = mix_.magnitude(std::abs(value), p, first + 2, second, golomb_ + 32 * c);
    if (size > 255) bad_ = true;
    else if (Coder::kDecodes) q[at] = int16_t(minus ? -size : size);
  }

  Coder& coder_;
  const ResidualArea f_;
  const uint8_t *lossy_, *doubts_;
  int n_;
  Mixer<Coder> mix_;
  uint32_t *base_[kInputs], *golomb_ = nullptr;
  bool bad_ = false;
};
