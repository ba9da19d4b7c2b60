// Coefficients of a JPEG 2000 image, adaptively coded (docs/format J3). Included once for each instruction set
// by coder.inl. Python twin: codecs/dlpr/modes/j2k/coefficients.py.

// Kinds of bits: largest magnitude of a cell, bit length of a coefficient, sign, bits below the first; then what passes
// of a plane that is not complete find and refine.
enum J2kKind { kCell, kLength, kSign, kDetail, kFind, kRefine, kKinds };

constexpr int kDepths = 5, kPlaces = 4 * kDepths;  // orientation and depth of a band
constexpr int kContexts[kKinds][kInputs] = {
    {512, 512, 512, 512, 512, 512, 160, 320},  {1920, 864, 864, 864, 864, 1152, 1152, 3200},
    {324, 324, 1024, 640, 729, 180, 1024, 20}, {120, 36, 432, 36, 360, 432, 432, 432},
    {864, 800, 480, 480, 480, 180, 432, 480},  {320, 96, 96, 96, 160, 96, 96, 96},
};
// Sets of weights of a component. First family: by kind and what is said there; second: by place.
constexpr int kFirst[kKinds] = {0, 8, 56, 57, 60, 68}, kFirstSets = 76;
constexpr int kSecondLength = 2, kSecondOf = 8, kSecondSets = kPlaces * kSecondOf;
// Slots of plain bits: low bits of a coefficient, whether a block has passes, Exp-Golomb codes.
constexpr int kDetailPlain = 0, kBlockPlain = 256, kGolomb = 288, kPlainSlots = kGolomb + 6 * 32;
constexpr int kStepGolomb = 4;

constexpr size_t component_slots() {
  size_t n = kPlainSlots;
  for (int k = 0; k < kKinds; ++k)
    for (int i = 0; i < kInputs; ++i) n += size_t(kContexts[k][i]);
  return n;
}

inline int bit_length(uint32_t v) { return v ? 32 - __builtin_clz(v) : 0; }

constexpr int kLargest = (1 << 21) - 1;  // amplitudes are cut here

// What is known of a band. Amplitudes are in half steps, in the middle of what is open, with a border of zeros; 0 is
// not significant yet.
struct KnownBand {
  static constexpr int kBorder = 2;
  int rows = 0, cols = 0, stride = 0, cell_stride = 0;
  std::vector<int32_t> value, soft;
  std::vector<int8_t> sign;
  std::vector<uint8_t> cell;  // bit length of the largest magnitude in 4 x 4, border 1
  void make(int r, int c) {
    rows = r, cols = c, stride = c + 2 * kBorder, cell_stride = (c + 3) / 4 + 2;
    value.assign(size_t(stride) * (size_t(r) + 2 * kBorder), 0);
    soft.assign(value.size(), 0), sign.assign(value.size(), 0);
    cell.assign(size_t(cell_stride) * size_t((r + 3) / 4 + 2), 0);
  }
  size_t at(int y, int x) const { return size_t(y + kBorder) * size_t(stride) + size_t(x + kBorder); }
  size_t cell_at(int y, int x) const { return size_t(y + 1) * size_t(cell_stride) + size_t(x + 1); }
  // Amplitudes and their neighbours', 16 times their mean: what bands behind look at.
  void soften() {
    for (int y = 0; y < rows; ++y) {
      const int32_t* v = &value[at(y, 0)];
      int32_t* s = &soft[at(y, 0)];
      for (int x = 0; x < cols; ++x)
        s[x] = 4 * v[x] + 2 * (v[x - 1] + v[x + 1] + v[x - stride] + v[x + stride]) + v[x - stride - 1] +
               v[x - stride + 1] + v[x + stride - 1] + v[x + stride + 1];
    }
  }
};

template <class Coder>
class CoefficientCoder {
 public:
  CoefficientCoder(Coder& coder, const J2kFields& f)
      : coder_(coder),
        f_(f),
        mix_(coder, component_slots() * size_t(f.components), kFirstSets * f.components, kSecondSets * f.components,
             nullptr) {}

  // Steps of all bands. False: out of range.
  bool steps(J2kFields& f) {
    for (int k = 0; k < f.components; ++k) {
      J2kComponent& c = f.comp[k];
      const bool alike = k && c.levels == f.comp[k - 1].levels && c.reversible == f.comp[k - 1].reversible;
      enter(k);
      for (int b = 0; b <= 3 * c.levels; ++b) {
        const int o = b ? (b - 1) % 3 + 1 : 0, depth = b ? c.levels - (b - 1) / 3 : c.levels;
        int exponent, mantissa;
        if (alike) exponent = f.comp[k - 1].exponent[b], mantissa = f.comp[k - 1].mantissa[b];
        else j2k_usual_step(c.reversible, o, depth, &exponent, &mantissa);
        exponent += golomb_signed(c.exponent[b] - exponent, kStepGolomb);
        if (exponent < 0 || exponent > 31) return false;
        c.exponent[b] = uint8_t(exponent);
        if (c.reversible) {
          c.mantissa[b] = 0;
          continue;
        }
        mantissa += golomb_signed(c.mantissa[b] - mantissa, kStepGolomb + 1);
        if (mantissa < 0 || mantissa > 2047) return false;
        c.mantissa[b] = uint16_t(mantissa);
      }
    }
    return true;
  }

  // All blocks; the decoder's arrays hold zeros. False: the lane is damaged, or no passes leave an encoder's numbers.
  bool run(const std::vector<J2kBand>& bands, const J2kNumbers& numbers) {
    const size_t each = size_t(j2k_tile_bands(f_));
    std::vector<KnownBand> known(each);
    for (size_t tile = 0; tile < bands.size(); tile += each)
      for (size_t i = 0; i < each; ++i) {
        const J2kBand& b = bands[tile + i];
        if (b.resolution == 0) missing_ = left_ = 0;
        known[i].make(std::max(b.rows(), 0), std::max(b.cols(), 0));
        if (!b.blocks()) continue;
        band_ = &b, me_ = &known[i];
        parent_ = b.resolution >= 2 ? &known[i - 3] : nullptr;
        if (parent_ && !bands[tile + i - 3].blocks()) parent_ = nullptr;
        one_ = two_ = nullptr;
        for (int k = 0; k < b.component; ++k) {
          const int at = same_place(b, k);
          if (at < 0 || known[size_t(at)].rows != b.rows() || known[size_t(at)].cols != b.cols()) continue;
          (k == b.component - 1 ? one_ : two_) = &known[size_t(at)];
        }
        if (!one_) std::swap(one_, two_);
        enter(b.component);
        const int depth = f_.comp[b.component].levels - std::max(b.resolution - 1, 0);
        place_ = b.orientation * kDepths + std::min(std::max(depth, 1), kDepths) - 1;
        if (!band(numbers.q[tile + i], numbers.passes[tile + i], numbers.missing[tile + i])) return false;
        me_->soften();
      }
    return true;
  }

 private:
  // Number in its tile of the band of component k with the orientation of b, as far from the pixels; -1: none.
  int same_place(const J2kBand& b, int k) const {
    const J2kComponent &c = f_.comp[b.component], &o = f_.comp[k];
    if (c.sv * o.sh != c.sh * o.sv || c.sv < o.sv) return -1;
    const int more = c.sv / o.sv == 4 ? 2 : c.sv / o.sv == 2 ? 1 : 0;
    const int resolution = o.levels - (c.levels - b.resolution) - more;
    if (resolution < 0 || resolution > o.levels || (resolution == 0) != (b.resolution == 0)) return -1;
    return j2k_first_band(f_, k, resolution) + std::max(b.orientation - 1, 0);
  }

  void enter(int cls) {
    cls_ = cls;
    uint32_t* p = mix_.slots() + size_t(cls) * component_slots();
    for (int k = 0; k < kKinds; ++k)
      for (int i = 0; i < kInputs; ++i) base_[k][i] = p, p += size_t(kContexts[k][i]);
    plain_ = p;
  }

  template <J2kKind kKind>
  DLPR_INLINE void place(Inputs& p, const int (&context)[kInputs]) const {
    for (int i = 0; i < kInputs; ++i) p[i] = base_[kKind][i] + context[i];
  }
  int first(J2kKind k, int i = 0) const { return cls_ * kFirstSets + kFirst[k] + i; }
  int second(int i) const { return cls_ * kSecondSets + place_ * kSecondOf + i; }

  int golomb_signed(int v, int code) {
    const int m = mix_.golomb(v < 0 ? -2 * v - 1 : 2 * v, plain_ + kGolomb + 32 * code);
    return m & 1 ? -(m + 1) / 2 : m / 2;
  }

  bool band(int32_t* q, uint8_t* passes, uint8_t* missing) {
    const J2kBand& b = *band_;
    int behind = 0;  // whether a block of this band came before
    for (int r = 0, k = 0; r < b.grid_rows; ++r)
      for (int c = 0; c < b.grid_cols; ++c, ++k) {
        int top, left, bottom, right;
        if (!b.block(r, c, &top, &left, &bottom, &right)) continue;
        if (!mix_.plain(passes[k] != 0, plain_[kBlockPlain + behind])) {
          passes[k] = missing[k] = 0;
          continue;
        }
        missing_ += golomb_signed(missing[k] - missing_, behind);
        const int planes = b.planes - missing_;
        if (missing_ < 0 || planes < 1 || planes > kJ2kMaxPlanes) return false;
        // passes that the lowest planes lack
        left_ += golomb_signed(3 * planes - 2 - passes[k] - left_, 2 + behind);
        const int n = 3 * planes - 2 - left_;
        if (left_ < 0 || n < 1) return false;
        behind = 1;
        passes[k] = uint8_t(n), missing[k] = uint8_t(missing_);
        edges_ = b.block_edges(r, c);
        top_ = top, left_col_ = left, bottom_ = bottom, right_ = right;
        if (!block(q, planes, n)) return false;
      }
    return true;
  }

  bool block(int32_t* q, int planes, int passes) {
    full_ = 1 + (passes - 1) / 3, low_ = planes - full_, coded_ = 0;
    cells(q);
    if (Coder::kDecodes && coder_.overrun()) return false;
    if (!lengths(q)) return false;
    const int more = (passes - 1) % 3;
    if (more) {
      --low_;
      find(q);
      if (more == 2) refine(q);
    }
    return Coder::kDecodes ? !coder_.overrun() : coded_ == sum(q);
  }

  // Sum of a block's magnitudes. What was coded of each is at most it, so equal sums say that all of it was: that the
  // passes can have left these numbers.
  int64_t sum(const int32_t* q) const {
    int64_t total = 0;
    for (int y = top_; y < bottom_; ++y) {
      const int32_t* row = q + size_t(y) * band_->cols();
      for (int x = left_col_; x < right_; ++x) total += std::abs(row[x]);
    }
    return total;
  }

  // A bit length relative to the lowest complete plane, 0..7.
  int relative(int length) const { return std::min(std::max(length - low_, 0), 7); }

  // ---- bit length of the largest magnitude of each 4 x 4, of the complete planes
  void cells(const int32_t* q) {
    const int cs = me_->cell_stride, cols = band_->cols();
    own_.clear();
    for (int cy = top_ >> 2; cy <= (bottom_ - 1) >> 2; ++cy)
      for (int cx = left_col_ >> 2; cx <= (right_ - 1) >> 2; ++cx) {
        const size_t at = me_->cell_at(cy, cx);
        int value = 0;
        if (!Coder::kDecodes) {
          uint32_t m = 0;
          for (int y = std::max(4 * cy, top_); y < std::min(4 * cy + 4, bottom_); ++y)
            for (int x = std::max(4 * cx, left_col_); x < std::min(4 * cx + 4, right_); ++x)
              m |= uint32_t(std::abs(q[size_t(y) * cols + x])) >> low_;
          value = bit_length(m);
        }
        uint8_t* c = &me_->cell[at];
        const int w = relative(c[-1]), n = relative(c[-cs]), ne = relative(c[-cs + 1]), nw = relative(c[-cs - 1]);
        int p = 0, ps = 0, c1 = 0, c1n = 0, c2 = 0;
        if (parent_) {
          const size_t pa = parent_->at(std::min(2 * cy, parent_->rows - 1), std::min(2 * cx, parent_->cols - 1));
          const int st = parent_->stride;
          const int32_t *v = &parent_->value[pa], *s = &parent_->soft[pa];
          p = relative(bit_length(uint32_t(std::max(std::max(v[0], v[1]), std::max(v[st], v[st + 1]))) >> 1));
          ps = fine_level((s[0] + s[1] + s[st] + s[st + 1]) >> low_ >> 2);
        }
        if (one_) {
          const uint8_t* o = &one_->cell[at];
          c1 = relative(o[0]), c1n = relative(std::max(std::max(o[-1], o[1]), std::max(o[-cs], o[cs])));
        }
        if (two_) c2 = relative(two_->cell[at]);
        int got = 0;
        for (; got < full_; ++got) {
          const int i = std::min(got, 7), k = std::min(full_ - got, 7);
          Inputs in;
          place<kCell>(in, {64 * i + 8 * w + n, 64 * i + 8 * ((ne + nw + 1) >> 1) + ((w + n + 1) >> 1),
                            64 * i + 8 * p + std::max(w, n), one_ ? 64 * i + 8 * c1 + c2 : 64 * i + 8 * p + ne,
                            64 * i + 8 * c1 + c1n, 64 * i + 8 * p + c1, kPlaces * k + place_, 40 * i + ps});
          if (!mix_.bit(value > got, in, first(kCell, i), second(0))) break;
        }
        own_.push_back(uint8_t(got));
        if (got) *c = std::max(*c, uint8_t(got + low_));
      }
  }

  // Amplitudes at a place in bands before: parent and its neighbours, component before and its neighbours, the other.
  struct Before {
    int parent = 0, one = 0, around = 0, two = 0;
  };
  DLPR_INLINE Before before(int y, int x, size_t at) const {
    Before b;
    if (parent_)
      b.parent = parent_->soft[parent_->at(std::min(y >> 1, parent_->rows - 1), std::min(x >> 1, parent_->cols - 1))];
    if (one_) b.one = one_->value[at], b.around = one_->soft[at];
    if (two_) b.two = two_->value[at];
    return b;
  }

  // A sign 0, 1, 2, turned if the leading one is negative.
  static int turned(int sign, int lead) { return lead < 0 ? 1 - sign : 1 + sign; }

  // The sign of a coefficient of a bit length (of complete planes) n; 1: negative.
  int sign(int minus, int n, size_t at) {
    const int8_t* s = &me_->sign[at];
    const int32_t* v = &me_->value[at];
    const int st = me_->stride, o = band_->orientation, size = std::min(n, 3);
    const int W = s[-1], E = s[1], N = s[-st], S = s[st], WW = s[-2], NN = s[-2 * st], NW = s[-st - 1], NE = s[-st + 1];
    const int s1 = one_ ? one_->sign[at] : 0, s2 = two_ ? two_->sign[at] : 0;
    const int l1 = one_ ? std::min(level(one_->value[at] >> low_), 7) : 0;
    const int l2 = two_ ? std::min(level(two_->value[at] >> low_), 7) : 0;
    const int across = W ? W : E, down = N ? N : S, lead = across ? across : down, other = s1 ? s1 : s2;
    const int causal = N ? N : W ? W : NN ? NN : WW ? WW : NW ? NW : NE;
    const int h = W * v[-1] + E * v[1], d = N * v[-st] + S * v[st], sum = h ? h : d;
    const int hl = std::min(level(std::abs(h) >> low_), 7), dl = std::min(level(std::abs(d) >> low_), 7);
    const int near = 27 * turned(W, lead) + 9 * turned(E, lead) + 3 * turned(N, lead) + turned(S, lead);
    const int two = 3 * turned(N, causal) + turned(W, causal);
    const int six =
        81 * two + 27 * turned(NN, causal) + 9 * turned(WW, causal) + 3 * turned(NW, causal) + turned(NE, causal);
    const int cross = 9 * (3 * turned(s1, lead) + turned(s2, lead)) + 3 * turned(across, lead) + turned(down, lead);
    Inputs p;
    place<kSign>(p,
                 {4 * near + o, 4 * cross + o, 16 * (8 * l1 + l2) + 8 * (s1 && s2 && s1 != s2) + 4 * (s1 != 0) + size,
                  kPlaces * (4 * l2 + size) + place_, six, kPlaces * two + place_,
                  16 * (8 * hl + dl) + 8 * (h != 0) + 4 * ((d < 0) != (sum < 0)) + o, place_});
    const uint32_t mirror = (lead < 0 ? 3u : 0u) | (other < 0 ? 4u : 0u) | (s2 < 0 ? 8u : 0u) |
                            (causal < 0 ? 48u : 0u) | (sum < 0 ? 64u : 0u);
    return mix_.template bit<true>(minus, p, first(kSign), second(1), mirror);
  }

  // ---- complete planes: bit lengths, signs, the bits below the first
  bool lengths(int32_t* q) {
    const int cs = me_->cell_stride, cols = band_->cols(), st = me_->stride, o = band_->orientation;
    const int ww = o == 1 ? 3 : o == 2 ? 6 : 4, wn = o == 1 ? 6 : o == 2 ? 3 : 4;
    const int w2 = o == 1 ? 1 : 2, n2 = o == 2 ? 1 : 2;  // the weights' sum is 16
    open_.assign(size_t(cs), 0), reached_.assign(size_t(cs), 0), filled_.assign(size_t(cs), 0);
    const int first_cell = left_col_ >> 2, last_cell = (right_ - 1) >> 2;
    for (int y = top_; y < bottom_; ++y) {
      if (y == top_ || !(y & 3)) {
        const int tall = std::min((y | 3) + 1, bottom_) - y;
        for (int cx = first_cell; cx <= last_cell; ++cx) {
          open_[size_t(cx)] = tall * (std::min(4 * cx + 4, right_) - std::max(4 * cx, left_col_));
          reached_[size_t(cx)] = filled_[size_t(cx)] = 0;
        }
      }
      for (int cx = first_cell; cx <= last_cell; ++cx) {
        const uint8_t* cell = &me_->cell[me_->cell_at(y >> 2, cx)];
        const int most = own_[size_t(((y >> 2) - (top_ >> 2)) * (last_cell - first_cell + 1) + cx - first_cell)];
        if (!most) continue;
        const int east = std::max(cell[1] - low_, 0), south = std::max(cell[cs] - low_, 0);
        int &open = open_[size_t(cx)], &filled = filled_[size_t(cx)], &reached = reached_[size_t(cx)];
        for (int x = std::max(4 * cx, left_col_); x < std::min(4 * cx + 4, right_); ++x) {
          const size_t at = me_->at(y, x), k = size_t(y) * cols + x;
          int32_t* v = &me_->value[at];
          const int sum = ww * v[-1] + wn * v[-st] + 2 * (v[-st - 1] + v[-st + 1]) + w2 * v[-2] + n2 * v[-2 * st];
          const Before b = before(y, x, at);
          const uint32_t m = uint32_t(std::abs(q[k])) >> low_;
          const int length = bit_length(m);
          int n = 0;
          for (; n < most; ++n) {
            if (n == most - 1 && open == 1 && !reached) {  // the only one left to reach what the cell has
              n = most;
              break;
            }
            const int sh = low_ + n, rest = std::min(most - n, 5), i = std::min(n, 3);
            const int s = level(sum >> sh >> 3), w = level(v[-1] >> sh), up = level(v[-st] >> sh);
            const int parent = level(b.parent >> sh >> 4), one = level(b.one >> sh), two = level(b.two >> sh),
                      around = level(b.around >> sh >> 3);
            const int e = std::min(std::max(east - n, 0), 3), so = std::min(std::max(south - n, 0), 3);
            Inputs p;
            place<kLength>(
                p,
                {40 * (8 * rest + 2 * i + reached) + fine_level(sum >> sh >> 2), 12 * (12 * rest + w) + up,
                 12 * (12 * rest + parent) + s,
                 one_ ? 12 * (12 * rest + one) + around : 12 * (12 * rest + parent) + std::min(3 * e + so, 11),
                 two_   ? 12 * (12 * rest + two) + around
                 : one_ ? 12 * (12 * rest + around) + s
                        : 12 * (12 * rest + level((v[-st - 1] + v[-st + 1]) >> sh)) + level((v[-2] + v[-2 * st]) >> sh),
                 16 * (12 * rest + std::min(filled, 11)) + open - 1, 12 * (4 * (4 * rest + e) + so) + s,
                 40 * (4 * place_ + i) + fine_level((2 * sum + b.parent + b.around) >> sh >> 4)});
            if (!mix_.bit(length > n, p, first(kLength, 6 * std::min(n, 7) + rest), second(kSecondLength + i))) break;
          }
          --open;
          if (!n) continue;
          ++filled, reached |= n == most;
          const int minus = sign(q[k] < 0, n, at);
          const uint32_t got = details(m, n, sum, v, b);
          coded_ += int64_t(got) << low_;
          if (Coder::kDecodes) q[k] = int32_t(minus ? -(got << low_) : got << low_);
          *v = int32_t(std::min<int64_t>((int64_t(got) * 2 + 1) << low_, kLargest));
          me_->sign[at] = minus ? -1 : 1;
        }
      }
      if (Coder::kDecodes && coder_.overrun()) return false;
    }
    return true;
  }

  // The bits of a magnitude of n bits behind the first: two of them mixed, plain bits from there.
  uint32_t details(uint32_t m, int n, int sum, const int32_t* v, const Before& b) {
    uint32_t got = 1;
    const int sh = low_ + n - 1, st = me_->stride;
    for (int j = n - 2; j >= 0; --j) {
      const int value = int(m >> j & 1);
      if (j < n - 3) {
        got = got << 1 | uint32_t(mix_.plain(value, plain_[kDetailPlain + 16 * std::min(n, 15) + std::min(j, 15)]));
        continue;
      }
      const int base = j == n - 2 ? 0 : 1 + int(got & 1);
      const int s = level(sum >> sh >> 2), parent = level(b.parent >> sh >> 3), around = level(b.around >> sh >> 2);
      Inputs p;
      place<kDetail>(p, {40 * base + fine_level(sum >> sh >> 1), 12 * base + parent,
                         12 * (12 * base + level(2 * b.one >> sh)) + level(2 * b.two >> sh), 12 * base + around,
                         kPlaces * (6 * base + std::min(n, 5)) + place_,
                         12 * (12 * base + level(2 * v[-1] >> sh)) + level(2 * v[-st] >> sh),
                         12 * (12 * base + s) + parent, 12 * (12 * base + s) + around});
      got = got << 1 | uint32_t(mix_.bit(value, p, first(kDetail, base), second(6)));
    }
    return got;
  }

  // ---- the plane below, low_: its significance pass
  void find(int32_t* q) {
    const int h = bottom_ - top_, w = right_ - left_col_, wide = w + 2, st = me_->stride, cols = band_->cols(),
              o = band_->orientation;
    const bool blind = f_.comp[band_->component].causal;
    found_.assign(size_t(wide) * size_t(h + 2), 0);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        found_[size_t(y + 1) * wide + x + 1] = me_->value[me_->at(top_ + y, left_col_ + x)] != 0;
    before_ = found_;
    // Stripes are the block's. An encoder need not know what lies outside of the window.
    const int above = (top_ - edges_.y0) & 3;
    const J2kRect e = edges_, in = band_->inner;
    for (int y0 = -above; y0 < h; y0 += 4)
      for (int x = 0; x < w; ++x)
        for (int y = std::max(y0, 0); y < std::min(y0 + 4, h); ++y) {
          uint8_t* s = &found_[size_t(y + 1) * wide + x + 1];
          if (*s) continue;
          int across = s[-1] + s[1], down = s[-wide], corners = s[-wide - 1] + s[-wide + 1];
          if (!(blind && y == y0 + 3)) down += s[wide], corners += s[wide - 1] + s[wide + 1];
          const int Y = top_ + y, X = left_col_ + x;
          const bool rim = std::max(Y - 1, e.y0) < in.y0 || std::min(Y + 2, e.y1) > in.y1 ||
                           std::max(X - 1, e.x0) < in.x0 || std::min(X + 2, e.x1) > in.x1;
          if (!(across | down | corners | rim)) continue;
          const size_t at = me_->at(Y, X), k = size_t(Y) * cols + X;
          int32_t* v = &me_->value[at];
          const Before b = before(Y, X, at);
          int a = v[-1] + v[1], c = v[-st] + v[st];
          const int d = v[-st - 1] + v[-st + 1] + v[st - 1] + v[st + 1], far = v[-2] + v[2] + v[-2 * st] + v[2 * st];
          if (o == 1) std::swap(a, c), std::swap(across, down);
          const int sum = 3 * a + 2 * c + d, e = fine_level(sum >> low_ >> 1), f = level(far >> low_ >> 1);
          const int parent = level(b.parent >> low_ >> 3), one = level(b.one >> low_), two = level(b.two >> low_),
                    around = level(b.around >> low_ >> 3);
          Inputs p;
          place<kFind>(p, {6 * (12 * level(a >> low_) + level(c >> low_)) + std::min(level(d >> low_), 5),
                           40 * place_ + e, 40 * parent + e, 40 * (one_ ? around : f) + e, 40 * (two_ ? two : one) + e,
                           4 * (5 * (3 * across + down) + corners) + o,
                           one_ ? 3 * (12 * one + two) + std::min(around, 2) : 12 * parent + f,
                           40 * f + fine_level((2 * sum + b.parent + b.around) >> low_ >> 3)});
          const int set = std::min(across + down + corners, 7);
          if (!mix_.bit((std::abs(q[k]) >> low_) & 1, p, first(kFind, set), second(7))) continue;
          const int minus = sign(q[k] < 0, 0, at);
          coded_ += int64_t(1) << low_;
          if (Coder::kDecodes) q[k] = minus ? -(1 << low_) : 1 << low_;
          *s = 1;
          *v = int32_t(std::min<int64_t>(int64_t(3) << low_, kLargest));
          me_->sign[at] = minus ? -1 : 1;
          uint8_t& cell = me_->cell[me_->cell_at(Y >> 2, X >> 2)];
          cell = std::max(cell, uint8_t(low_ + 1));
        }
  }

  // ---- and its refinement pass
  void refine(int32_t* q) {
    const int st = me_->stride, cols = band_->cols(), o = band_->orientation, wide = right_ - left_col_ + 2;
    for (int y = top_; y < bottom_; ++y)
      for (int x = left_col_; x < right_; ++x) {
        if (!before_[size_t(y - top_ + 1) * wide + (x - left_col_ + 1)]) continue;
        const size_t at = me_->at(y, x), k = size_t(y) * cols + x;
        int32_t* v = &me_->value[at];
        const Before b = before(y, x, at);
        int a = v[-1] + v[1], c = v[-st] + v[st];
        const int d = v[-st - 1] + v[-st + 1] + v[st - 1] + v[st + 1];
        if (o == 1) std::swap(a, c);
        const int known = std::abs(q[k]) >> (low_ + 1), m = std::min(known, 7);
        const int value = (std::abs(q[k]) >> low_) & 1;
        Inputs p;
        place<kRefine>(
            p, {40 * m + fine_level((3 * a + 2 * c + d) >> low_ >> 3), 12 * m + level(b.parent >> low_ >> 5),
                12 * m + level(b.one >> low_ >> 1), 12 * m + level(b.around >> low_ >> 5), kPlaces * m + place_,
                12 * m + level(b.two >> low_ >> 1), 12 * m + level(a >> low_ >> 1), 12 * m + level(c >> low_ >> 1)});
        const int bit = mix_.bit(value, p, first(kRefine, m), second(7));
        coded_ += int64_t(bit) << low_;
        if (Coder::kDecodes) q[k] += (q[k] < 0 ? -bit : bit) * (1 << low_);
        *v = int32_t(std::min<int64_t>((int64_t(2 * known + bit) * 2 + 1) << low_, kLargest));
      }
  }

  Coder& coder_;
  const J2kFields& f_;
  Mixer<Coder> mix_;
  uint32_t *base_[kKinds][kInputs], *plain_ = nullptr;
  const J2kBand* band_ = nullptr;
  KnownBand* me_ = nullptr;
  const KnownBand *parent_ = nullptr, *one_ = nullptr, *two_ = nullptr;
  int cls_ = 0, place_ = 0, missing_ = 0, left_ = 0;
  int64_t coded_ = 0;                                    // magnitudes of a block
  int full_ = 0, low_ = 0;                               // complete planes of a block, and the lowest of them
  int top_ = 0, left_col_ = 0, bottom_ = 0, right_ = 0;  // the block in its band
  J2kRect edges_;                                        // all of the block, of which the window may need a part
  std::vector<int> open_, reached_, filled_;
  std::vector<uint8_t> own_, found_, before_;  // bit lengths of the block's cells; what is significant, with a border
};
