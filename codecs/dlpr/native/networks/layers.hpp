// Integer layers (docs/format section 4) and the maps they work on.
#pragma once
#include "networks/kernels.hpp"
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace dlpr {

inline int round_up(int v, int to) { return (v + to - 1) / to * to; }

// Constants of Rescale.
inline int32_t rounding(int shift) { return (1 << shift) >> 1; }
inline int32_t rescale_add(int bias) { return 2048 + 4096 * bias; }

// Activations [h][w][c] with a border of one zero pixel on every side.
struct Map {
  int h = 0, w = 0, c = 0;
  std::vector<int16_t> data;
  Map() = default;
  Map(int h_, int w_, int c_) : h(h_), w(w_), c(c_), data(size_t(h_ + 2) * (w_ + 2) * c_ + 32, 0) {}
  int16_t* at(int y, int x) { return data.data() + (size_t(y + 1) * (w + 2) + (x + 1)) * c; }
  const int16_t* at(int y, int x) const { return data.data() + (size_t(y + 1) * (w + 2) + (x + 1)) * c; }
};

// One layer as the file holds it; pointers stay valid as long as the model's tensors do.
struct RawLayer {
  const int8_t* weight;
  int out, in, k;  // in = channels, k = kernel side
  const int32_t* acc_bias;
  const uint8_t* shift;
  const int16_t* mult;
  const int16_t* bias;
};

// The layer in the order the kernels want: weights [ky][pair][out][2], outputs padded to 16.
struct Layer {
  int in = 0, out = 0, padded = 0, k = 1, pairs = 0;
  bool shuffled = false;  // outputs reordered [2a+b][k] for shuffle2
  std::vector<int16_t> weight;
  std::vector<int32_t> start, shift, mult, add;  // Rescale

  Layer() = default;
  Layer(const RawLayer& r, bool shuffle2)
      : in(r.in), out(r.out), padded(round_up(r.out, 16)), k(r.k), shuffled(shuffle2) {
    int row = r.k * r.in;  // inputs of one kernel row: [kx][channel]
    pairs = (row + 1) / 2;
    weight.assign(size_t(r.k) * pairs * padded * 2, 0);
    start.assign(padded, 0), shift.assign(padded, 0), mult.assign(padded, 0), add.assign(padded, 0);
    for (int o = 0; o < out; ++o) {
      int to = shuffle2 ? (o & 3) * (out / 4) + o / 4 : o;
      shift[to] = r.shift[o], start[to] = r.acc_bias[o] + rounding(r.shift[o]);
      mult[to] = r.mult[o], add[to] = rescale_add(r.bias[o]);
      for (int ky = 0; ky < r.k; ++ky)
        for (int kx = 0; kx < r.k; ++kx)
          for (int c = 0; c < r.in; ++c) {
            int i = kx * r.in + c;
            weight[((size_t(ky) * pairs + i / 2) * padded + to) * 2 + (i & 1)] =
                r.weight[((size_t(o) * r.in + c) * r.k + ky) * r.k + kx];
          }
    }
  }
};

enum class Act { none, leaky, add_leaky };

// out = act(layer(in)); stride 1 or 2; with layer.shuffled the output has twice the sides and a quarter of the
// channels. add_leaky: out = clamp(in + leaky(layer(in))).
inline void apply(const Kernels& kn, const Layer& l, const Map& in, int stride, Act act, Map& out) {
  int oh = in.h / stride, ow = in.w / stride, oc = l.shuffled ? l.out / 4 : l.out;
  out = l.shuffled ? Map(2 * oh, 2 * ow, oc) : Map(oh, ow, oc);
  const int lead = l.k / 2;
  const ptrdiff_t pitch = ptrdiff_t(in.w + 2) * in.c;
  const Rescale q = {l.start.data(), l.shift.data(), l.mult.data(), l.add.data(), kActMax, act != Act::none};
  // Rows of the output are written where they belong, if no channels are padded and none move.
  const bool direct = !l.shuffled && l.padded == oc;
  std::vector<int16_t> row(direct ? 0 : size_t(ow) * l.padded);
  for (int y = 0; y < oh; ++y) {
    const LayerInput rows = {in.at(y * stride - lead, -lead), stride * in.c, ow, l.k, pitch, l.pairs};
    if (direct) {
      kn.layer(rows, l.weight.data(), l.padded, q, act == Act::add_leaky ? in.at(y, 0) : nullptr, out.at(y, 0));
      continue;
    }
    kn.layer(rows, l.weight.data(), l.padded, q, nullptr, row.data());
    for (int x = 0; x < ow; ++x) {
      const int16_t* r = &row[size_t(x) * l.padded];
      if (l.shuffled) {
        for (int ab = 0; ab < 4; ++ab)
          std::memcpy(out.at(2 * y + ab / 2, 2 * x + ab % 2), r + ab * oc, sizeof(int16_t) * oc);
      } else if (act == Act::add_leaky) {
        int16_t* o = out.at(y, x);
        const int16_t* i = in.at(y, x);
        for (int c = 0; c < oc; ++c) {
          const int v = i[c] + r[c];
          o[c] = int16_t(v > kActMax ? kActMax : v < -kActMax ? -kActMax : v);
        }
      } else {
        std::memcpy(out.at(y, x), r, sizeof(int16_t) * oc);
      }
    }
  }
}

// [h][w][c] -> [h/r][w/r][c r r], channel c r r + r a + b (pixel unshuffle)
inline Map unshuffle(const Map& in, int r) {
  Map out(in.h / r, in.w / r, in.c * r * r);
  for (int y = 0; y < out.h; ++y)
    for (int x = 0; x < out.w; ++x)
      for (int a = 0; a < r; ++a)
        for (int b = 0; b < r; ++b) {
          const int16_t* p = in.at(y * r + a, x * r + b);
          for (int c = 0; c < in.c; ++c) out.at(y, x)[c * r * r + r * a + b] = p[c];
        }
  return out;
}

}  // namespace dlpr
