// Coefficients of a JPEG image, adaptively coded (docs/format section 18). Included once for each instruction set by
// coder.inl. Python twin: codecs/dlpr/modes/jpeg/coefficients.py.

// Kinds of bits: counts, then "is it zero", sign and magnitude of the interior, the edges and DC.
enum Kind { kCount, kEdgeCount, kZero, kSign, kSize, kEdgeZero, kEdgeSign, kEdgeSize, kDcZero, kDcSign, kDcSize, kKinds };

// Slots of a context, and contexts by input, for one component.
constexpr int kKindSlots[kKinds] = {48, 8, 1, 1, 8, 1, 1, 8, 1, 1, 8};
constexpr int kContexts[kKinds][kInputs] = {
    {1, 50, 50, 144, 144, 144, 50, 50},         {24, 128, 192, 128, 192, 128, 256, 384},
    {588, 588, 588, 144, 416, 1152, 144, 588},  {588, 588, 416, 40, 588, 588, 288, 588},
    {588, 588, 588, 144, 416, 1152, 144, 588},  {192, 192, 192, 96, 416, 192, 84, 96},
    {192, 192, 416, 192, 84, 96, 96, 192},      {192, 192, 192, 96, 416, 192, 168, 96},
    {12, 144, 144, 156, 3, 12, 144, 12},        {3, 12, 156, 12, 12, 36, 1, 1},
    {12, 144, 144, 156, 3, 12, 144, 12},
};
// Sets of weights of a component. First family: by kind and bit; second: by place.
constexpr int kFirst[kKinds] = {0, 48, 64, 65, 66, 73, 81, 82, 89, 90, 91}, kFirstSets = 98;
constexpr int kSecondEdgeCount = 1, kSecondInterior = 3, kSecondEdge = 52, kSecondDc = 68, kSecondSets = 69;
constexpr int kGolombSlots = 3 * 32;  // interior and edges, DC, tables

constexpr size_t component_slots() {
  size_t n = kGolombSlots;
  for (int k = 0; k < kKinds; ++k)
    for (int i = 0; i < kInputs; ++i) n += size_t(kContexts[k][i]) * size_t(kKindSlots[k]);
  return n;
}

template <class Coder>
class CoefficientCoder {
 public:
  CoefficientCoder(Coder& coder, const JpegFields& f, const MixState* start)
      : coder_(coder),
        f_(f),
        mix_(coder, component_slots() * size_t(f.components), kFirstSets * f.components, kSecondSets * f.components,
             start) {}

  Mixer<Coder>& mixer() { return mix_; }

  // Steps of a component as differences along the zigzag order. False: out of range.
  bool table(uint16_t* steps) {
    enter(0);
    int before = 16;
    for (int k = 0; k < 64; ++k) {
      const int d = int(steps[kZigzag[k]]) - before, m = mix_.golomb(d < 0 ? -2 * d - 1 : 2 * d, golomb_ + 64);
      before += m & 1 ? -(m + 1) / 2 : m / 2;
      if (before < 1 || before > 255) return false;
      steps[kZigzag[k]] = uint16_t(before);
    }
    return true;
  }

  // All coefficients; the decoder's arrays hold zeros. False: the lane is damaged.
  bool run(int16_t* const* q) {
    for (int place = 0; place < f_.components; ++place)
      if (!component(place, q)) return false;
    return true;
  }

 private:
  // What later blocks and components need of a block.
  struct Block {
    uint8_t last = 0, interior = 0, edge[2] = {};
    int16_t dc_error = 0;
    int16_t border[4][8] = {};  // rows 7 and 6, columns 7 and 6, in 1/8 level
  };

  // Component coded at a place: with red, green, blue, green comes first.
  int component_at(int place) const { return f_.components == 3 && f_.transform == 0 && place < 2 ? 1 - place : place; }

  void enter(int place) {
    cls_ = place;
    uint32_t* p = mix_.slots() + size_t(place) * component_slots();
    for (int k = 0; k < kKinds; ++k)
      for (int i = 0; i < kInputs; ++i) base_[k][i] = p, p += size_t(kContexts[k][i]) * size_t(kKindSlots[k]);
    golomb_ = p;
  }

  // Slots of the contexts of a kind.
  template <Kind kKind>
  DLPR_INLINE void place(Inputs& p, const int (&context)[kInputs]) const {
    for (int i = 0; i < kInputs; ++i) p[i] = base_[kKind][i] + kKindSlots[kKind] * context[i];
  }
  int first(Kind k, int i = 0) const { return cls_ * kFirstSets + kFirst[k] + i; }
  int second(int i) const { return cls_ * kSecondSets + i; }

  bool component(int place, int16_t* const* q) {
    enter(place);
    c_ = component_at(place), cols_ = f_.cols(c_);
    const bool same = !f_.subsampled();
    if (place == 1 && !same) fold_luma(q[0]);
    std::vector<Block>& mine = blocks_[place];
    mine.assign(f_.blocks(c_), Block());
    static const int16_t zero[64] = {};
    const int top = f_.first_row(c_), start = f_.first_col(c_), end = f_.end_col(c_);
    for (int y = top; y < f_.end_row(c_); ++y)
      for (int x = start; x < end; ++x) {
        const size_t at = size_t(y) * cols_ + x, row = size_t(cols_) * 64;
        b_ = q[c_] + at * 64, me_ = &mine[at];
        up_ = y > top ? me_ - cols_ : nullptr, left_ = x > start ? me_ - 1 : nullptr;
        above_ = up_ ? b_ - row : zero, side_ = left_ ? b_ - 64 : zero;
        above_left_ = up_ && left_ ? b_ - row - 64 : zero;
        above_right_ = up_ && x + 1 < end ? b_ - row + 64 : zero;
        one_ = two_ = &none_, q1_ = q2_ = zero;
        if (place == 2) one_ = &blocks_[1][at], q1_ = q[component_at(1)] + at * 64;
        if (place > 0) {  // luma: beside the one before, or at its place
          const Block* luma = same ? &blocks_[0][at] : &folded_blocks_[at];
          const int16_t* values = same ? q[component_at(0)] + at * 64 : &folded_[at * 64];
          if (place == 1)
            one_ = luma, q1_ = values;
          else
            two_ = luma, q2_ = values;
        }
        block();
        if (Coder::kDecodes && (bad_ || coder_.overrun())) return false;
      }
    return true;
  }

  // Component 0 at the size of the others; blocks that are not coded count as zero.
  void fold_luma(const int16_t* luma) {
    const int rows = f_.rows(1), cols = f_.cols(1), wide = f_.cols(0);
    folded_.assign(f_.blocks(1) * 64, 0), folded_blocks_.assign(f_.blocks(1), Block());
    const uint16_t *t0 = f_.tables[0], *t1 = f_.tables[1];
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < cols; ++x) {
        int32_t part[2][64], half[2][64], whole[64];
        int error = 0;
        for (int i = 0; i < f_.sv; ++i) {
          for (int j = 0; j < f_.sh; ++j) {
            const int row = y * f_.sv + i, col = x * f_.sh + j;
            const size_t at = size_t(row) * wide + col;
            const bool coded =
                row >= f_.first_row(0) && row < f_.end_row(0) && col >= f_.first_col(0) && col < f_.end_col(0);
            error += blocks_[0][at].dc_error;
            for (int k = 0; k < 64; ++k) part[j][k] = coded ? limited(luma[at * 64 + k] * t0[k], 16383) : 0;
          }
          if (f_.sh == 2)
            for (int r = 0; r < 8; ++r) jpeg_fold(part[0] + 8 * r, part[1] + 8 * r, 1, half[i] + 8 * r);
          else
            std::copy_n(part[0], 64, half[i]);
        }
        if (f_.sv == 2)
          for (int c = 0; c < 8; ++c) jpeg_fold(half[0] + c, half[1] + c, 8, whole + c);
        else
          std::copy_n(half[0], 64, whole);
        const size_t at = size_t(y) * cols + x;
        int16_t* p = &folded_[at * 64];
        Block& b = folded_blocks_[at];
        for (int k = 1; k < 64; ++k) p[k] = int16_t(jpeg_steps(whole[k], t1[k]));
        b.dc_error = int16_t(jpeg_steps(error * t0[0] / (f_.sv * f_.sh), t1[0]));
        b.last = uint8_t(last_of(p));
        for (int v = 1; v < 8; ++v) {
          b.edge[0] += p[v] != 0, b.edge[1] += p[8 * v] != 0;
          for (int u = 1; u < 8; ++u) b.interior += p[8 * v + u] != 0;
        }
      }
  }

  // Places of the interior in zigzag order up to the last that is not zero.
  static int last_of(const int16_t* b) {
    int n = 49;
    while (n > 0 && !b[kInterior.z[n - 1]]) --n;
    return n;
  }

  void block() {
    int n = 0, e[2] = {};
    if (!Coder::kDecodes) {
      n = last_of(b_);
      for (int v = 1; v < 8; ++v) e[0] += b_[v] != 0, e[1] += b_[8 * v] != 0;
    }
    interior_last(n);
    expect();
    interior();
    for (int side = 0; side < 2; ++side) {
      edge_count(side, e[side]);
      edge(side);
    }
    dc();
  }

  void interior_last(int n) {
    const int a = up_ ? up_->last : 0, l = left_ ? left_->last : 0, both = up_ && left_ ? (a + l + 1) >> 1 : a + l;
    const int n1 = one_->last, n2 = two_->last;
    Inputs p;
    place<kCount>(p, {0, both, n1, level(a) * 12 + level(l), level(n1) * 12 + level(both), level(n1) * 12 + level(n2),
                      std::max(a, l), std::min(49, (n1 + n2 + both) >> 1)});
    n = classed(n, p, first(kCount), second(0));
    if (n > 49) bad_ = true, n = 49;
    me_->last = uint8_t(n);
  }

  // 0..63: how many bits it has, in unary at places 0..5, then the bits below the first at places 8 (bits - 1) ..
  DLPR_INLINE int classed(int value, Inputs& p, int first, int second) {
    const int bits = mix_.unary(value ? 32 - __builtin_clz(unsigned(value)) : 0, p, 6, first, second);
    if (bits < 2) return bits;
    int r = 1;
    for (auto& at : p) at += 8 * (bits - 1) - bits;
    for (int i = bits - 2, depth = 0; i >= 0; --i, ++depth) {
      const int node = depth < 3 ? (1 << depth) - 1 + (r & ((1 << depth) - 1)) : 7;
      Inputs at;
      for (int k = 0; k < kInputs; ++k) at[k] = p[k] + node;
      r = r << 1 | mix_.bit(value >> i & 1, at, first + 6 + 8 * (bits - 2) + node, second);
    }
    return r;
  }

  // What the columns and rows lack at the border to the blocks above and left, in 1/256 of a cosine's height there.
  void expect() {
    const uint16_t* t = f_.tables[c_];
    std::fill(column_, column_ + 8, 0), std::fill(row_, row_ + 8, 0);
    if (up_)
      for (int v = 0; v < 8; ++v)
        for (int u = 0; u < 8; ++u) column_[u] += (v == 0 ? 182 : v & 1 ? -256 : 256) * t[8 * v + u] * above_[8 * v + u];
    if (left_)
      for (int v = 0; v < 8; ++v) {
        int sum = 0;
        for (int u = 0; u < 8; ++u) sum += (u == 0 ? 182 : u & 1 ? -256 : 256) * t[8 * v + u] * side_[8 * v + u];
        row_[v] = sum;
      }
  }

  int around(int z) const {
    return level((13 * (std::abs(above_[z]) + std::abs(side_[z])) +
                  4 * (std::abs(above_left_[z]) + std::abs(above_right_[z])) + 8) >>
                 4);
  }

  // Context of the coefficients at this place in the components before; whether they lead to a negative number.
  int across(int z, int around, bool& negative) const {
    const int lead = q1_[z] ? q1_[z] : q2_[z];
    negative = lead < 0;
    return (std::min(std::abs(int(q1_[z])), 7) * 13 + (negative ? -1 : 1) * limited(q2_[z], 6) + 6) * 4 +
           std::min(3, around >> 1);
  }

  void put(int z, int v) {
    if (v < -kJpegCoefficientMax || v > kJpegCoefficientMax)
      bad_ = true;
    else if (Coder::kDecodes)
      b_[z] = int16_t(v);
  }

  void interior() {
    const uint16_t* t = f_.tables[c_];
    const int last = me_->last;
    int seen = 0;
    for (int i = last - 1; i >= 0; --i) {
      const int z = kInterior.z[i], v = z >> 3, u = z & 7, step = 128 * t[z];
      const int near = (u < 7 ? 2 * std::abs(b_[z + 1]) : 0) + (v < 7 ? 2 * std::abs(b_[z + 8]) : 0) +
                       (u < 7 && v < 7 ? std::abs(b_[z + 9]) : 0);
      const int w = around(z), f = level(near), r = level(seen), l1 = level(std::abs(q1_[z]));
      const int ea = column_[u] / step, el = row_[v] / step, es = ea + el;
      const int la = level(std::abs(ea)), ll = level(std::abs(el)), ls = level(std::abs(es));
      const int share = (12 * w + f) * 8 + std::min(7, seen * 8 / last);
      bool negative;
      const int cross = across(z, w, negative), value = b_[z];
      Inputs p;
      if (i != last - 1) {
        place<kZero>(p, {12 * i + r, 12 * i + w, 12 * i + l1, 12 * r + f, cross, share, 12 * la + ll, 12 * i + f});
        if (!mix_.bit(value != 0, p, first(kZero), second(kSecondInterior + i))) continue;
      }
      ++seen;
      place<kSign>(p, {12 * i + l1, 12 * i + level(std::abs(q2_[z])), cross, fine_level(std::abs(es)), 12 * i + la,
                       12 * i + ll, (12 * la + ll) * 2 + ((ea < 0) != (el < 0) && el != 0), 12 * i + ls});
      const uint32_t mirror = (q1_[z] < 0 ? 1u : 0u) | (q2_[z] < 0 ? 2u : 0u) | (negative ? 4u : 0u) |
                              (es < 0 ? 0x88u : 0u) | (ea < 0 ? 0x50u : 0u) | (el < 0 ? 0x20u : 0u);
      const int minus =
          mix_.template bit<true>(value < 0, p, first(kSign), second(kSecondInterior + i), mirror);
      const int sign = minus ? -1 : 1, ma = sign * ea > 0 ? la : 0, ml = sign * el > 0 ? ll : 0;
      place<kSize>(p, {12 * i + r, 12 * i + w, 12 * i + l1, 12 * r + f, cross, share, 12 * ma + ml,
                       12 * i + (sign * es > 0 ? ls : 0)});
      const int got =
          sign * mix_.magnitude(std::abs(value), p, first(kSize), second(kSecondInterior + i), golomb_);
      put(z, got);
      if (bad_) return;
      if (up_) column_[u] -= 256 * t[z] * got;
      if (left_) row_[v] -= 256 * t[z] * got;
    }
    me_->interior = uint8_t(seen);
  }

  void edge_count(int side, int n) {
    const int a = up_ ? up_->edge[side] : 0, l = left_ ? left_->edge[side] : 0, n1 = one_->edge[side],
              n2 = two_->edge[side];
    const int inner = level(me_->interior), other = side ? me_->edge[0] : 0;
    Inputs p;
    place<kEdgeCount>(p, {12 * side + inner, (8 * side + a) * 8 + l, (8 * side + n1) * 12 + inner,
                          (8 * side + n1) * 8 + n2, (8 * side + other) * 12 + inner,
                          (8 * side + n1) * 8 + ((a + l + 1) >> 1), (16 * side + a + l) * 8 + other,
                          (16 * side + n1 + n2) * 12 + inner});
    me_->edge[side] = uint8_t(mix_.unary(n, p, 7, first(kEdgeCount, 8 * side), second(kSecondEdgeCount + side)));
  }

  void edge(int side) {
    const uint16_t* t = f_.tables[c_];
    const int step = side ? 8 : 1, along = side ? 1 : 8;
    for (int i = 1, rest = me_->edge[side]; rest > 0; ++i) {
      const int z = i * step, k = 8 * side + i, d = 91 * t[z];
      const int expected = floor_div((side ? row_ : column_)[i] + (d >> 1), d), e = level(std::abs(expected));
      const int near = (i > 1 ? 2 * std::abs(b_[z - step]) : 0) + std::abs(b_[z + along]) + (side ? std::abs(b_[i]) : 0);
      const int w = around(z), l1 = level(std::abs(q1_[z])), f = level(near);
      const int with = 7 * e + (expected < 0 ? -1 : 1) * limited(q1_[z], 3) + 3;
      bool negative;
      const int cross = across(z, w, negative), value = b_[z];
      Inputs p;
      if (rest < 8 - i) {
        place<kEdgeZero>(p, {12 * k + rest, 12 * k + w, 12 * k + l1, 12 * rest + f, cross, 12 * k + e, with, 8 * e + rest});
        if (!mix_.bit(value != 0, p, first(kEdgeZero, rest), second(kSecondEdge + k))) continue;
      }
      place<kEdgeSign>(p, {12 * k + l1, 12 * k + w, cross, 12 * k + e, with, 8 * e + rest, 12 * rest + f,
                           12 * k + level(std::abs(q2_[z]))});
      const uint32_t mirror =
          (q1_[z] < 0 ? 1u : 0u) | (negative ? 4u : 0u) | (expected < 0 ? 0x38u : 0u) | (q2_[z] < 0 ? 128u : 0u);
      const int minus = mix_.template bit<true>(value < 0, p, first(kEdgeSign), second(kSecondEdge + k), mirror);
      const bool against = minus != (expected < 0);
      place<kEdgeSize>(p, {12 * k + rest, 12 * k + w, 12 * k + l1, 12 * rest + f, cross, 12 * k + (against ? 0 : e),
                           (against ? 84 : 0) + with, (against ? 0 : 8 * e) + rest});
      const int size = mix_.magnitude(std::abs(value), p, first(kEdgeSize), second(kSecondEdge + k), golomb_);
      put(z, minus ? -size : size);
      if (bad_) return;
      --rest;
    }
  }

  void dc() {
    const uint16_t* table = f_.tables[c_];
    const int step = table[0];
    int p[64];  // the block without its mean, in 1/8 level, in which a step is `step`
    int32_t d[8][8], w[8][8];
    for (int k = 0; k < 64; ++k) d[k >> 3][k & 7] = k ? limited(int(b_[k]) * table[k], 16383) : 0;
    jpeg_idct_pass(d, w, 11);
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 8; ++x) d[x][y] = std::min(std::max(w[y][x], -32768), 32767);
    jpeg_idct_pass(d, w, 15);
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 8; ++x) p[8 * y + x] = w[x][y];
    int sum = 0, low = 1 << 30, high = -(1 << 30), log_n = 2;
    auto edge = [&](const int16_t (*border)[8], int at, int along, int inwards) {
      for (int i = 0; i < 8; ++i) {
        const int mine = p[at + i * along], next = p[at + i * along + inwards];
        const int v = border[0][i] - mine + ((border[0][i] - border[1][i] + next - mine) >> 1);
        sum += v, low = std::min(low, v), high = std::max(high, v);
      }
      ++log_n;
    };
    if (up_) edge(up_->border, 0, 1, 8);
    if (left_) edge(left_->border + 2, 0, 8, 1);
    const int expected = sum >> log_n, spread = log_n > 2 ? high - low : 0;
    const int whole = limited(int(floor_div(2 * int64_t(expected) + step, 2 * step)), kJpegCoefficientMax),
              part = limited(expected - whole * step, step);
    const int x1 = one_->dc_error, x2 = two_->dc_error, lead = x1 ? x1 : x2, l1 = level(std::abs(x1));
    const int s = level(spread / step),
              near = level((up_ ? std::abs(up_->dc_error) : 0) + (left_ ? std::abs(left_->dc_error) : 0));
    const int size2 = level(std::abs(x2)), sum12 = level(std::abs(x1 + x2)), p2 = std::min(2, 4 * std::abs(part) / step);
    const int pair = 13 * l1 + (lead < 0 ? -1 : 1) * limited(x2, 6) + 6, inner = level(me_->interior);
    const int value = b_[0] - whole;
    int error = 0;
    Inputs at;
    place<kDcZero>(at, {s, 12 * s + near, 12 * l1 + s, pair, p2, inner, 12 * size2 + near, sum12});
    if (mix_.bit(value != 0, at, first(kDcZero), second(kSecondDc))) {
      place<kDcSign>(at, {p2, l1, pair, size2, sum12, 3 * s + p2, 0, 0});
      const uint32_t mirror = (part < 0 ? 0x21u : 0u) | (x1 < 0 ? 2u : 0u) | (lead < 0 ? 4u : 0u) |
                              (x2 < 0 ? 8u : 0u) | (x1 + x2 < 0 ? 16u : 0u);
      const int minus = mix_.template bit<true>(value < 0, at, first(kDcSign), second(kSecondDc), mirror);
      place<kDcSize>(at, {s, 12 * s + near, 12 * l1 + s, pair, p2, inner, 12 * size2 + near, sum12});
      error = mix_.magnitude(std::abs(value), at, first(kDcSize), second(kSecondDc), golomb_ + 32);
      if (minus) error = -error;
    }
    put(0, whole + error);
    if (bad_) return;
    me_->dc_error = int16_t(error);
    for (int i = 0; i < 8; ++i) {
      const int at[4] = {56 + i, 48 + i, 8 * i + 7, 8 * i + 6};
      for (int j = 0; j < 4; ++j) me_->border[j][i] = int16_t(limited(p[at[j]] + (whole + error) * step, 32767));
    }
  }

  Coder& coder_;
  const JpegFields& f_;
  Mixer<Coder> mix_;
  uint32_t *base_[kKinds][kInputs], *golomb_ = nullptr;
  std::vector<Block> blocks_[3], folded_blocks_;
  std::vector<int16_t> folded_;
  const Block none_;
  bool bad_ = false;
  // of the block being coded
  int cls_ = 0, c_ = 0, cols_ = 0;
  int16_t* b_ = nullptr;
  Block* me_ = nullptr;
  const Block *up_ = nullptr, *left_ = nullptr, *one_ = nullptr, *two_ = nullptr;
  const int16_t *above_ = nullptr, *side_ = nullptr, *above_left_ = nullptr, *above_right_ = nullptr, *q1_ = nullptr,
                *q2_ = nullptr;
  int32_t column_[8], row_[8];
};
