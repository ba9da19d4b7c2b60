// Training only: the per-pixel network of one crop, forward, code length and backward, in blocks that stay in the
// cache. Float, in the order of dlpr/modes/networks/model/residual.py; the exact integer network is in model.hpp.
#pragma once
#include "training/likelihood.hpp"
#include <algorithm>
#include <atomic>

namespace dlpr {

// Vectors at any address; members, because a template argument would lose the alignment.
struct Wide {
  static constexpr int kLanes = 16;
  typedef float type __attribute__((vector_size(64), aligned(4), may_alias));
};
struct Narrow {
  static constexpr int kLanes = 8;
  typedef float type __attribute__((vector_size(32), aligned(4), may_alias));
};

// C[i,:] (+)= sum_l A(i,l) B[l,:] for MI rows and NV vectors of columns; A(i,l) = a[i rs + l cs].
template <class Lanes, int MI, int NV, bool Add>
inline __attribute__((always_inline)) void gemm_tile(int depth, const float* a, long rs, long cs, const float* b,
                                                     long ldb, float* c, long ldc) {
  typedef typename Lanes::type V;
  constexpr int kLanes = Lanes::kLanes;
  V acc[MI][NV];
  for (int i = 0; i < MI; ++i)
    for (int v = 0; v < NV; ++v) {
      if (Add) acc[i][v] = *reinterpret_cast<const V*>(c + i * ldc + kLanes * v);
      else acc[i][v] = V{};
    }
  for (int l = 0; l < depth; ++l) {
    V w[NV];
    for (int v = 0; v < NV; ++v) w[v] = *reinterpret_cast<const V*>(b + l * ldb + kLanes * v);
    for (int i = 0; i < MI; ++i) {
      float s = a[i * rs + l * cs];
      for (int v = 0; v < NV; ++v) acc[i][v] += s * w[v];
    }
  }
  for (int i = 0; i < MI; ++i)
    for (int v = 0; v < NV; ++v) *reinterpret_cast<V*>(c + i * ldc + kLanes * v) = acc[i][v];
}

template <class Lanes, int NV, bool Add>
inline __attribute__((always_inline)) void gemm_columns(int rows, int depth, const float* a, long rs, long cs,
                                                        const float* b, long ldb, float* c, long ldc) {
  int i = 0;
  for (; i + 6 <= rows; i += 6) gemm_tile<Lanes, 6, NV, Add>(depth, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc);
  for (; i + 2 <= rows; i += 2) gemm_tile<Lanes, 2, NV, Add>(depth, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc);
  for (; i < rows; ++i) gemm_tile<Lanes, 1, NV, Add>(depth, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc);
}

// Tiles must fit the registers: 18 sums of 16 floats those of AVX-512, 12 sums of 8 floats those of AVX2.
inline bool many_registers() {
#if defined(__x86_64__)
  static const bool many = __builtin_cpu_supports("avx512f");
  return many;
#else
  return false;
#endif
}

// columns: a multiple of 16.
template <bool Add>
inline __attribute__((always_inline)) void gemm(bool wide, int rows, int columns, int depth, const float* a, long rs,
                                                long cs, const float* b, long ldb, float* c, long ldc) {
  int j = 0;
  if (wide) {
    for (; j + 48 <= columns; j += 48) gemm_columns<Wide, 3, Add>(rows, depth, a, rs, cs, b + j, ldb, c + j, ldc);
    for (; j + 16 <= columns; j += 16) gemm_columns<Wide, 1, Add>(rows, depth, a, rs, cs, b + j, ldb, c + j, ldc);
  }
  for (; j + 16 <= columns; j += 16) gemm_columns<Narrow, 2, Add>(rows, depth, a, rs, cs, b + j, ldb, c + j, ldc);
}

// Element-wise steps on vectors: compilers leave `y > 0 ? y : slope * y` a branch, which is mispredicted half of the
// time. Counts n and columns are multiples of 8.
typedef Narrow::type Floats;
constexpr float kSlope = 0.125f;
inline __attribute__((always_inline)) Floats& floats(float* p) { return *reinterpret_cast<Floats*>(p); }
inline __attribute__((always_inline)) const Floats& floats(const float* p) {
  return *reinterpret_cast<const Floats*>(p);
}

inline __attribute__((always_inline)) void leaky(int n, const float* in, float* out) {
  for (int i = 0; i < n; i += Narrow::kLanes) {
    const Floats v = floats(in + i);
    floats(out + i) = v > 0.f ? v : v * kSlope;
  }
}
inline __attribute__((always_inline)) void sum(int n, const float* a, const float* b, float* out) {
  for (int i = 0; i < n; i += Narrow::kLanes) floats(out + i) = floats(a + i) + floats(b + i);
}
// d *= slope of leaky() at its output y
inline __attribute__((always_inline)) void leaky_backward(int n, const float* y, float* d) {
  for (int i = 0; i < n; i += Narrow::kLanes) {
    const Floats v = floats(d + i);
    floats(d + i) = floats(y + i) > 0.f ? v : v * kSlope;
  }
}
// out[j] += sum over rows of d[row, j]
inline __attribute__((always_inline)) void add_columns(int rows, int columns, const float* d, float* out) {
  for (int j = 0; j < columns; j += Narrow::kLanes) {
    Floats s = floats(out + j);
    for (int i = 0; i < rows; ++i) s += floats(d + long(i) * columns + j);
    floats(out + j) = s;
  }
}

constexpr int kNetCells = 24;            // 2x2 cells in a block
constexpr int kNetRows = 4 * kNetCells;  // pixels in a block
constexpr int kOutPad = 80;              // outputs, padded to vectors
constexpr int kLossyIn = 15;

struct NetSizes {
  int cells, causal, trunk, hidden, layers;  // layers: hidden layers, the last one after the skip connection
  int family;
  int trunk_pad() const { return (trunk + 15) / 16 * 16; }
};

// One crop: its inputs, its weights (conditioning folded in) and where the gradients go. Row-major.
struct NetCrop {
  const int16_t* causal;           // [4 cells, causal], divided by 64 here
  const float* lossy;              // [4 cells, 15]
  const float* trunk;              // [cells, trunk]
  const int64_t* position;         // [4 cells] in 0..63
  const float *e, *lower, *upper;  // [4 cells, 3]
  const float *first, *u, *place, *w, *b, *out,
      *out_bias;             // [causal+15,h] [4,trunk,h] [64,h] [layers,h,h] [layers,h] [h,75] [75]
  float *g_lossy, *g_trunk;  // inputs' gradients; null where not wanted
  float *g_first, *g_u, *g_place, *g_w, *g_b, *g_out, *g_out_bias;
};

__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) inline double net_crop(const NetSizes& z,
                                                                                                     const NetCrop& n) {
  const int H = z.hidden, L = z.layers, C = z.causal, F = C + kLossyIn, T = z.trunk, TP = z.trunk_pad();
  const bool wide = many_registers();
  const uint8_t used[3] = {1, 1, 1};
  std::vector<float> wt(size_t(L) * H * H), ot(size_t(kOutPad) * H, 0.f), of(size_t(H) * kOutPad, 0.f),
      lt(size_t(H) * 16, 0.f), ut(size_t(4) * H * TP, 0.f);
  for (int l = 0; l < L; ++l)
    for (int i = 0; i < H; ++i)
      for (int j = 0; j < H; ++j) wt[(size_t(l) * H + j) * H + i] = n.w[(size_t(l) * H + i) * H + j];
  for (int i = 0; i < H; ++i)
    for (int j = 0; j < kOutputs; ++j)
      of[size_t(i) * kOutPad + j] = ot[size_t(j) * H + i] = n.out[size_t(i) * kOutputs + j];
  for (int i = 0; i < kLossyIn; ++i)
    for (int j = 0; j < H; ++j) lt[size_t(j) * 16 + i] = n.first[size_t(C + i) * H + j];
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < T; ++i)
      for (int j = 0; j < H; ++j) ut[(size_t(q) * H + j) * TP + i] = n.u[(size_t(q) * T + i) * H + j];
  std::vector<float> f(size_t(kNetRows) * F), a(size_t(L + 1) * kNetRows * H), h(size_t(kNetRows) * H),
      skip(size_t(kNetRows) * H);
  std::vector<float> o(size_t(kNetRows) * kOutPad), go(size_t(kNetRows) * kOutPad), d(size_t(kNetRows) * H),
      d2(size_t(kNetRows) * H);
  std::vector<float> gout(size_t(H) * kOutPad, 0.f), gl(size_t(kNetRows) * 16), gt(size_t(kNetCells) * TP);
  float gob[kOutPad] = {0.f};
  double total = 0;
  for (int c0 = 0; c0 < z.cells; c0 += kNetCells) {
    const int cells = std::min(kNetCells, z.cells - c0), rows = 4 * cells;
    const long at = 4L * c0;
    for (int i = 0; i < rows; ++i) {
      const int16_t* src = n.causal + (at + i) * C;
      float* dst = f.data() + size_t(i) * F;
      for (int j = 0; j < C; ++j) dst[j] = float(src[j]) * (1.f / 64.f);
      std::memcpy(dst + C, n.lossy + (at + i) * kLossyIn, kLossyIn * sizeof(float));
      std::memcpy(h.data() + size_t(i) * H, n.place + n.position[at + i] * H, size_t(H) * sizeof(float));
    }
    gemm<true>(wide, rows, H, F, f.data(), F, 1, n.first, H, h.data(), H);
    for (int q = 0; q < 4; ++q)
      gemm<true>(wide, cells, H, T, n.trunk + long(c0) * T, T, 1, n.u + size_t(q) * T * H, H, h.data() + q * H, 4L * H);
    auto act = [&](int l) { return a.data() + size_t(l) * kNetRows * H; };
    leaky(rows * H, h.data(), act(0));
    for (int l = 0; l < L; ++l) {
      const float* in = act(l);
      float* y = act(l + 1);
      if (l == L - 1) {
        sum(rows * H, in, h.data(), skip.data());
        in = skip.data();
      }
      for (int i = 0; i < rows; ++i) std::memcpy(y + size_t(i) * H, n.b + size_t(l) * H, size_t(H) * sizeof(float));
      gemm<true>(wide, rows, H, H, in, H, 1, n.w + size_t(l) * H * H, H, y, H);
      leaky(rows * H, y, y);
    }
    for (int i = 0; i < rows; ++i) {
      std::memcpy(o.data() + size_t(i) * kOutPad, n.out_bias, kOutputs * sizeof(float));
      std::fill_n(o.data() + size_t(i) * kOutPad + kOutputs, kOutPad - kOutputs, 0.f);
    }
    gemm<true>(wide, rows, kOutPad, H, act(L), H, 1, of.data(), kOutPad, o.data(), kOutPad);
    total += nll_rows(o.data(), n.e + at * 3, n.lower + at * 3, n.upper + at * 3, used, rows, kOutPad, go.data(),
                      nullptr, z.family);
    if (!n.g_first) continue;
    for (int i = 0; i < rows; ++i) std::fill_n(go.data() + size_t(i) * kOutPad + kOutputs, kOutPad - kOutputs, 0.f);
    add_columns(rows, kOutPad, go.data(), gob);
    gemm<true>(wide, H, kOutPad, rows, act(L), 1, H, go.data(), kOutPad, gout.data(), kOutPad);
    gemm<false>(wide, rows, H, kOutPad, go.data(), kOutPad, 1, ot.data(), H, d.data(), H);
    for (int l = L - 1; l >= 0; --l) {
      const float *y = act(l + 1), *in = l == L - 1 ? skip.data() : act(l);
      leaky_backward(rows * H, y, d.data());
      add_columns(rows, H, d.data(), n.g_b + size_t(l) * H);
      gemm<true>(wide, H, H, rows, in, 1, H, d.data(), H, n.g_w + size_t(l) * H * H, H);
      gemm<false>(wide, rows, H, H, d.data(), H, 1, wt.data() + size_t(l) * H * H, H, d2.data(), H);
      std::swap(d, d2);
      if (l == L - 1) std::copy_n(d.data(), rows * H, skip.data());  // gradient that goes around the hidden layers
    }
    leaky_backward(rows * H, h.data(), d.data());
    sum(rows * H, skip.data(), d.data(), d.data());
    for (int i = 0; i < rows; ++i) add_columns(1, H, d.data() + size_t(i) * H, n.g_place + n.position[at + i] * H);
    gemm<true>(wide, F, H, rows, f.data(), 1, F, d.data(), H, n.g_first, H);
    for (int q = 0; q < 4; ++q)
      gemm<true>(wide, T, H, cells, n.trunk + long(c0) * T, 1, T, d.data() + q * H, 4L * H, n.g_u + size_t(q) * T * H,
                 H);
    if (n.g_lossy) {
      gemm<false>(wide, rows, 16, H, d.data(), H, 1, lt.data(), 16, gl.data(), 16);
      for (int i = 0; i < rows; ++i)
        std::memcpy(n.g_lossy + (at + i) * kLossyIn, gl.data() + size_t(i) * 16, kLossyIn * sizeof(float));
    }
    if (n.g_trunk) {
      std::fill(gt.begin(), gt.end(), 0.f);
      for (int q = 0; q < 4; ++q)
        gemm<true>(wide, cells, TP, H, d.data() + q * H, 4L * H, 1, ut.data() + size_t(q) * H * TP, TP, gt.data(), TP);
      for (int i = 0; i < cells; ++i)
        std::memcpy(n.g_trunk + (long(c0) + i) * T, gt.data() + size_t(i) * TP, size_t(T) * sizeof(float));
    }
  }
  if (n.g_first) {
    for (int i = 0; i < H; ++i)
      for (int j = 0; j < kOutputs; ++j) n.g_out[size_t(i) * kOutputs + j] = gout[size_t(i) * kOutPad + j];
    for (int j = 0; j < kOutputs; ++j) n.g_out_bias[j] += gob[j];
  }
  return total;
}

}  // namespace dlpr
