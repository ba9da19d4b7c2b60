// Planes of a JPEG's components, recomputed from pixels: floats, exact where the pixels allow it.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace dlpr {

// Samples as floats; level 128 is 0.
struct FloatPlane {
  int h = 0, w = 0;
  std::vector<float> v;
  FloatPlane() = default;
  FloatPlane(int h_, int w_) : h(h_), w(w_), v(size_t(h_) * w_) {}
  float* row(int y) { return v.data() + size_t(y) * w; }
  const float* row(int y) const { return v.data() + size_t(y) * w; }
};

struct Dct {
  float m[8][8];  // orthonormal
  Dct() {
    for (int k = 0; k < 8; ++k)
      for (int n = 0; n < 8; ++n)
        m[k][n] = float(std::sqrt((k ? 2.0 : 1.0) / 8) * std::cos((2 * n + 1) * k * 3.14159265358979323846 / 16));
  }
  // 8x8 samples at p to 64 coefficients.
  void operator()(const float* p, size_t stride, float* out) const {
    float t[8][8];
    for (int y = 0; y < 8; ++y)
      for (int u = 0; u < 8; ++u) {
        float s = 0;
        for (int x = 0; x < 8; ++x) s += m[u][x] * p[y * stride + x];
        t[y][u] = s;
      }
    for (int k = 0; k < 8; ++k) {
      float s[8] = {};
      for (int y = 0; y < 8; ++y)
        for (int u = 0; u < 8; ++u) s[u] += m[k][y] * t[y][u];
      std::copy_n(s, 8, out + 8 * k);
    }
  }
};

inline const Dct& dct() {
  static const Dct d;
  return d;
}

// Components of pixels [h][w][channels], level 128 taken off except from chroma. Differences of pixels: `exact` off.
inline void component_planes(const float* x, int h, int w, int channels, int transform, bool exact, FloatPlane* out) {
  const size_t n = size_t(h) * w;
  for (int c = 0; c < channels; ++c) out[c] = FloatPlane(h, w);
  if (transform == 0) {
    for (size_t i = 0; i < n; ++i)
      for (int c = 0; c < channels; ++c) out[c].v[i] = x[i * channels + c] - (exact ? 128.f : 0.f);
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    const float r = x[3 * i], g = x[3 * i + 1], b = x[3 * i + 2];
    float y = 0.299f * r + 0.587f * g + 0.114f * b;  // within 1/2 of the decoder's integer: its weights sum to 1
    if (exact) y = std::floor(y + 0.5f);
    float cb = (b - y) * (1 / 1.772f), cr = (r - y) * (1 / 1.402f);
    if (exact) cb = std::floor(cb + 0.5f), cr = std::floor(cr + 0.5f);
    out[0].v[i] = y - (exact ? 128.f : 0.f), out[1].v[i] = cb, out[2].v[i] = cr;
  }
}

// Half the columns: the samples that upsampling made these from. Triangle filter: 3/4 of the two that stem from a
// sample less 1/4 of their neighbours is that sample; repetition: the mean.
inline FloatPlane halve_columns(const FloatPlane& p, bool box) {
  FloatPlane out(p.h, p.w / 2);
  for (int y = 0; y < p.h; ++y) {
    const float* s = p.row(y);
    float* o = out.row(y);
    for (int x = 0; x < out.w; ++x) {
      const float in = s[2 * x] + s[2 * x + 1];
      o[x] = box ? 0.5f * in : 0.75f * in - 0.25f * (s[std::max(2 * x - 1, 0)] + s[std::min(2 * x + 2, p.w - 1)]);
    }
  }
  return out;
}

inline FloatPlane halve_rows(const FloatPlane& p, bool box) {
  FloatPlane out(p.h / 2, p.w);
  for (int y = 0; y < out.h; ++y) {
    const float *a = p.row(2 * y), *b = p.row(2 * y + 1), *before = p.row(std::max(2 * y - 1, 0)),
                *after = p.row(std::min(2 * y + 2, p.h - 1));
    float* o = out.row(y);
    for (int x = 0; x < p.w; ++x)
      o[x] = box ? 0.5f * (a[x] + b[x]) : 0.75f * (a[x] + b[x]) - 0.25f * (before[x] + after[x]);
  }
  return out;
}

// `p` at row y, column x of a plane [h][w] that continues with the edge samples, or with zeros.
inline FloatPlane on_canvas(const FloatPlane& p, int y0, int x0, int h, int w, bool replicate) {
  FloatPlane out(h, w);
  for (int y = 0; y < h; ++y) {
    const int sy = std::min(std::max(y - y0, 0), p.h - 1);
    if (!replicate && sy != y - y0) continue;
    const float* s = p.row(sy);
    float* o = out.row(y);
    for (int x = 0; x < w; ++x) {
      const int sx = std::min(std::max(x - x0, 0), p.w - 1);
      o[x] = replicate || sx == x - x0 ? s[sx] : 0.f;
    }
  }
  return out;
}

}  // namespace dlpr
