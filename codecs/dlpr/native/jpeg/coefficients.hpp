// Coefficients of a JPEG image, adaptively coded (docs/format section 18).
// Python twin: codecs/dlpr/modes/jpeg/coefficients.py.
#pragma once
#include "jpeg/arith.hpp"
#include "jpeg/image.hpp"
#include "jpeg/synthesis.hpp"
#include "jpeg/zigzag.hpp"

namespace dlpr {

// Magnitudes to 12 levels: 0, 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-20, 21-32, 33-63, 64 and above.
inline int jpeg_level(int v) {
  static const uint8_t levels[64] = {0,  1,  2,  3,  4,  5,  5,  6,  6,  7,  7,  7,  7,  8,  8,  8,
                                     8,  8,  8,  8,  8,  9,  9,  9,  9,  9,  9,  9,  9,  9,  9,  9,
                                     9,  10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
                                     10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10};
  return v > 63 ? 11 : levels[v];
}

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }  // b > 0
inline int limited(int v, int top) { return std::min(std::max(v, -top), top); }

enum JpegKind { kKindCount, kKindEdgeCount, kKindInterior, kKindEdge, kKindDc, kKinds };

// Contexts of each kind and input, for one of three classes (the order of the components).
constexpr int kJpegContexts[kKinds][kInputs] = {
    {4, 200, 200, 576, 576, 576, 200, 200},      // count: 64 slots each, four contexts of 16
    {24, 128, 192, 128, 192, 128, 256, 384},     // edge count: by row and column
    {768, 768, 768, 144, 416, 1152, 1024, 768},  // interior
    {192, 192, 192, 144, 416, 192, 84, 96},      // edge
    {12, 144, 144, 156, 3, 12, 144, 12},         // DC
};

template <class Coder>
class CoefficientCoder {
 public:
  CoefficientCoder(Coder& coder, const JpegFields& f)
      : coder_(coder), f_(f), mix_(coder, sizes(f.components).data(), kFirstSets, kSecondSets) {
    for (int i = 0; i < kInputs; ++i)
      for (int k = 0, at = 0; k < kKinds; at += f.components * kJpegContexts[k][i], ++k) start_[k][i] = at;
  }

  // Component coded at a place: with red, green, blue, green comes first.
  int component_at(int place) const { return f_.components == 3 && f_.transform == 0 && place < 2 ? 1 - place : place; }

  // Steps of a component as differences along the zigzag order. False: out of range.
  bool table(uint16_t* steps) {
    int before = 16;
    for (int k = 0; k < 64; ++k) {
      const int d = int(steps[kZigzag[k]]) - before, m = mix_.golomb(d < 0 ? -2 * d - 1 : 2 * d, 7);
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
  // 0..8, 9..17, 18..26: numbers of a class; 27 + 64 * class: interior counts; 219 + 16 * class + 8 * e: edge counts
  static constexpr int kFirstSets = 219 + 48, kSecondSets = 9 + 3 * 65 + 3 * 16;

  // What later blocks and components need of a block.
  struct Block {
    uint8_t interior = 0, edge[2] = {};
    int16_t dc_error = 0;
    int16_t border[4][8] = {};  // rows 7 and 6, columns 7 and 6, in 1/8 level
  };

  static std::vector<int> sizes(int components) {
    std::vector<int> n(kInputs, 0);
    for (int i = 0; i < kInputs; ++i)
      for (int k = 0; k < kKinds; ++k) n[i] += components * kJpegContexts[k][i];
    return n;
  }

  void place(JpegKind kind, const int (&context)[kInputs]) {
    for (int i = 0; i < kInputs; ++i) mix_.context[i] = start_[kind][i] + cls_ * kJpegContexts[kind][i] + context[i];
  }

  bool component(int place, int16_t* const* q) {
    cls_ = place, c_ = component_at(place);
    cols_ = f_.cols(c_);
    std::vector<Block>& mine = blocks_[place];
    mine.resize(f_.blocks(c_));
    const bool same = !f_.subsampled();
    const int before = place == 0 || (place == 1 && !same) ? -1 : place - 1, first = place == 2 && same ? 0 : -1;
    static const int16_t zero[64] = {};
    const int top = f_.first_row(c_), start = f_.first_col(c_), end = f_.end_col(c_);
    for (int y = top; y < f_.end_row(c_); ++y)
      for (int x = start; x < end; ++x) {
        const size_t at = size_t(y) * cols_ + x, row = size_t(cols_) * 64;
        b_ = q[c_] + at * 64, me_ = &mine[at];
        up_ = y > top ? me_ - cols_ : nullptr, left_ = x > start ? me_ - 1 : nullptr;
        above_ = up_ ? b_ - row : zero, side_ = left_ ? b_ - 64 : zero;
        above_left_ = up_ && left_ ? b_ - row - 64 : zero, above_right_ = up_ && x + 1 < end ? b_ - row + 64 : zero;
        one_ = before >= 0 ? &blocks_[before][at] : &none_, two_ = first >= 0 ? &blocks_[first][at] : &none_;
        q1_ = before >= 0 ? q[component_at(before)] + at * 64 : zero,
        q2_ = first >= 0 ? q[component_at(first)] + at * 64 : zero;
        block();
        if (Coder::kDecodes && (mix_.bad() || overrun(coder_))) return false;
      }
    return true;
  }
  static bool overrun(const BitDecoder& d) { return d.overrun(); }
  static bool overrun(const BitEncoder&) { return false; }

  void block() {
    int n = 0, e[2] = {};
    if (!Coder::kDecodes)
      for (int v = 1; v < 8; ++v) {
        e[0] += b_[v] != 0, e[1] += b_[8 * v] != 0;
        for (int u = 1; u < 8; ++u) n += b_[8 * v + u] != 0;
      }
    interior_count(n);
    interior();
    for (int side = 0; side < 2; ++side) {
      edge_count(side, e[side]);
      edge(side);
    }
    dc();
  }

  void interior_count(int n) {
    const int a = up_ ? up_->interior : 0, l = left_ ? left_->interior : 0,
              both = up_ && left_ ? (a + l + 1) >> 1 : a + l;
    const int n1 = one_->interior, n2 = two_->interior;
    place(kKindCount,
          {0, 4 * both, 4 * n1, 4 * (jpeg_level(a) * 12 + jpeg_level(l)), 4 * (jpeg_level(n1) * 12 + jpeg_level(both)),
           4 * (jpeg_level(n1) * 12 + jpeg_level(n2)), 4 * std::max(a, l), 4 * std::min(49, (n1 + n2 + both) >> 1)});
    n = mix_.count(n, 6, 27 + 64 * cls_, cls_);
    if (n > 49) mix_.fail(), n = 49;
    me_->interior = uint8_t(n);
  }

  int weighed(int z) const {
    return jpeg_level((13 * (std::abs(above_[z]) + std::abs(side_[z])) +
                       4 * (std::abs(above_left_[z]) + std::abs(above_right_[z])) + 8) >>
                      4);
  }

  // Context of the coefficients at this place in the components before; its mirror bit.
  int across(int z, int level, bool& negative) const {
    const int lead = q1_[z] ? q1_[z] : q2_[z];
    negative = lead < 0;
    return (std::min(std::abs(int(q1_[z])), 7) * 13 + (negative ? -1 : 1) * limited(q2_[z], 6) + 6) * 4 +
           std::min(3, level >> 1);
  }

  void coefficient(int z, bool may_be_zero, int second) {
    const int v = mix_.number(b_[z], may_be_zero, 9 * cls_, second, cls_);
    if (v < -kJpegCoefficientMax || v > kJpegCoefficientMax) return mix_.fail();
    if (Coder::kDecodes) b_[z] = int16_t(v);
  }

  void interior() {
    for (int k = 4, rest = me_->interior, places = 49; rest > 0; ++k) {
      const int z = kZigzag[k], v = z >> 3, u = z & 7;
      if (!v || !u) continue;
      int near = 0;
      if (u > 1) near += 2 * std::abs(b_[z - 1]);
      if (v > 1) near += 2 * std::abs(b_[z - 8]);
      if (u > 1 && v > 1) near += std::abs(b_[z - 9]);
      const int level = weighed(z), f = jpeg_level(near), r = jpeg_level(rest);
      bool negative;
      const int cross = across(z, level, negative);
      place(kKindInterior,
            {12 * k + r, 12 * k + level, 12 * k + jpeg_level(std::abs(q1_[z])), 12 * r + f, cross,
             (12 * level + f) * 8 + std::min(7, rest * 8 / places),
             (4 * k + std::min(3, std::abs(above_[z]))) * 4 + std::min(3, std::abs(side_[z])), 12 * k + f});
      mix_.mirror = (q1_[z] < 0 ? 4u : 0u) | (negative ? 16u : 0u);
      coefficient(z, rest < places, 9 + 65 * cls_ + k);
      rest -= b_[z] != 0, --places;
      if (mix_.bad()) return;
    }
  }

  void edge_count(int side, int n) {
    const int a = up_ ? up_->edge[side] : 0, l = left_ ? left_->edge[side] : 0, n1 = one_->edge[side],
              n2 = two_->edge[side];
    const int inner = jpeg_level(me_->interior), other = side ? me_->edge[0] : 0;
    place(kKindEdgeCount,
          {12 * side + inner, (8 * side + a) * 8 + l, (8 * side + n1) * 12 + inner, (8 * side + n1) * 8 + n2,
           (8 * side + other) * 12 + inner, (8 * side + n1) * 8 + ((a + l + 1) >> 1), (16 * side + a + l) * 8 + other,
           (16 * side + n1 + n2) * 12 + inner});
    me_->edge[side] = uint8_t(mix_.count(n, 3, 219 + 16 * cls_ + 8 * side, 3 + 2 * cls_ + side));
  }

  // The coefficient that lets the block go on where its neighbour ends, in half steps.
  int continued(int side, int i) const {
    if (!(side ? left_ : up_)) return 0;
    static const int gain[8] = {8192, 11363, 10703, 9633,
                                8192, 6437,  4433,  2260};  // sqrt(2) cos(j pi / 16), but 1 for j = 0
    const int16_t* other = side ? side_ : above_;
    const uint16_t* table = f_.tables[c_];
    const int step = side ? 8 : 1, along = side ? 1 : 8;
    int64_t sum = 0;
    for (int j = 0; j < 8; ++j) {
      const int z = i * step + j * along;
      sum += int64_t(gain[j]) * table[z] * ((j & 1 ? -other[z] : other[z]) - (j ? b_[z] : 0));
    }
    const int64_t d = 4096 * int64_t(table[i * step]);
    return int(floor_div(sum + (d >> 1), d));
  }

  void edge(int side) {
    const int step = side ? 8 : 1, along = side ? 1 : 8;
    for (int i = 1, rest = me_->edge[side]; rest > 0; ++i) {
      const int z = i * step, k = 8 * side + i, expected = continued(side, i), level = weighed(z);
      const int e = jpeg_level(std::abs(expected)), sign = expected < 0 ? -1 : 1;
      const int near =
          (i > 1 ? 2 * std::abs(b_[z - step]) : 0) + std::abs(b_[z + along]) + (side ? std::abs(b_[i]) : 0);
      bool negative;
      const int cross = across(z, level, negative);
      place(kKindEdge,
            {12 * k + rest, 12 * k + level, 12 * k + jpeg_level(std::abs(q1_[z])), 12 * rest + jpeg_level(near), cross,
             12 * k + e, 7 * e + sign * limited(q1_[z], 3) + 3, 8 * e + rest});
      mix_.mirror = (q1_[z] < 0 ? 4u : 0u) | (negative ? 16u : 0u) | (expected < 0 ? 0xE0u : 0u);
      coefficient(z, rest < 8 - i, 204 + 16 * cls_ + k);
      rest -= b_[z] != 0;
      if (mix_.bad()) return;
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
    const int x1 = one_->dc_error, x2 = two_->dc_error, lead = x1 ? x1 : x2, l1 = jpeg_level(std::abs(x1));
    const int s = jpeg_level(spread / step),
              near = jpeg_level((up_ ? std::abs(up_->dc_error) : 0) + (left_ ? std::abs(left_->dc_error) : 0));
    place(kKindDc, {s, 12 * s + near, 12 * l1 + s, 13 * l1 + (lead < 0 ? -1 : 1) * limited(x2, 6) + 6,
                    std::min(2, 4 * std::abs(part) / step), jpeg_level(me_->interior),
                    12 * jpeg_level(std::abs(x2)) + near, jpeg_level(std::abs(x1 + x2))});
    mix_.mirror = (x1 < 0 ? 4u : 0u) | (lead < 0 ? 8u : 0u) | (part < 0 ? 16u : 0u) | (x2 < 0 ? 64u : 0u) |
                  (x1 + x2 < 0 ? 128u : 0u);
    const int error = mix_.number(b_[0] - whole, true, 9 * cls_, 9 + 65 * cls_, 3 + cls_), value = whole + error;
    if (value < -kJpegCoefficientMax || value > kJpegCoefficientMax) return mix_.fail();
    if (Coder::kDecodes) b_[0] = int16_t(value);
    me_->dc_error = int16_t(error);
    for (int i = 0; i < 8; ++i) {
      const int at[4] = {56 + i, 48 + i, 8 * i + 7, 8 * i + 6};
      for (int j = 0; j < 4; ++j) me_->border[j][i] = int16_t(limited(p[at[j]] + value * step, 32767));
    }
  }

  Coder& coder_;
  const JpegFields& f_;
  MixedCoder<Coder> mix_;
  int start_[kKinds][kInputs];
  std::vector<Block> blocks_[3];
  const Block none_;
  // of the block being coded
  int cls_ = 0, c_ = 0, cols_ = 0;
  int16_t* b_ = nullptr;
  Block* me_ = nullptr;
  const Block *up_ = nullptr, *left_ = nullptr, *one_ = nullptr, *two_ = nullptr;
  const int16_t *above_ = nullptr, *side_ = nullptr, *above_left_ = nullptr, *above_right_ = nullptr, *q1_ = nullptr,
                *q2_ = nullptr;
};

}  // namespace dlpr
