// What training needs of the codec: the linear stage of a block and the causal features of its pixels.
#pragma once
#include "bindings/arrays.hpp"
#include "networks/linear.hpp"
#include "training/likelihood.hpp"
#include "training/pixel_net.hpp"

namespace dlpr {

inline void fill_patch(PatchSamples& s, const uint8_t* x, int row_stride) {
  for (int y = 0; y < s.h; ++y)
    for (int i = 0; i < s.w; ++i) {
      const uint8_t* p = x + size_t(y) * row_stride + 3 * i;
      for (int c = 0; c < 3; ++c) s.at(y, i)[c] = p[c];
      s.complete(y, i);
    }
}

// Linear stage of one block taken as one patch, within the limits of FitOptions: (pred16 [H,W,3], classes, coefficients
// [4,3,68], counts [4,3], bias8 [4,3]).
inline nb::tuple linear_block(In<uint8_t> x, In<uint8_t> base, int frac, double coef_bits, double floor_var,
                              int max_taps, int max_classes, int context) {
  if (max_taps < 0 || max_taps > kTapValues || max_classes < 1 || context < 2 || context > 3)
    throw nb::value_error("max_taps 0..66, max_classes 1..4 and context 2 or 3 expected");
  int h = int(x.shape(0)), w = int(x.shape(1));
  int16_t *pred, *coef;
  int32_t *counts, *bias;
  auto apred = new_array<int16_t>({size_t(h), size_t(w), 3}, &pred);
  auto acoef = new_array<int16_t>({4, 3, size_t(kRegressors)}, &coef);
  auto acount = new_array<int32_t>({4, 3}, &counts);
  auto abias = new_array<int32_t>({4, 3}, &bias);
  LinearStage ls;
  {
    nb::gil_scoped_release free_gil;
    PatchSamples s(h, w, base.data());
    fill_patch(s, x.data(), w * 3);
    Moments m;
    add_moments(m, s, kernels());
    FitOptions o;
    o.coef_bits = coef_bits, o.floor_var = floor_var, o.max_taps = max_taps, o.max_classes = max_classes,
    o.context = context;
    ls = fit_linear(m, frac, o);
    WindowStage ws;
    ws.set(ls);
    for (int y = 0; y < h; ++y)
      for (int i = 0; i < w; ++i) {
        int found[3];
        predict(kernels(), ws.p[ls.phase(y, i)], s, s.at(y, i), found);
        for (int c = 0; c < 3; ++c) pred[(size_t(y) * w + i) * 3 + c] = int16_t(found[c]);
      }
    for (int k = 0; k < 4; ++k)
      for (int c = 0; c < 3; ++c) {
        counts[k * 3 + c] = ls.p[k][c].count, bias[k * 3 + c] = ls.p[k][c].bias8;
        for (int i = 0; i < kRegressors; ++i) coef[(k * 3 + c) * kRegressors + i] = ls.p[k][c].coef[i];
      }
  }
  return nb::make_tuple(apred, ls.classes, acoef, acount, abias);
}

// Features of the named pixels (int32 [n,2] of y, x) of one block taken as one patch: int16 [n, 133], and
// the local base they are relative to: int16 [n, 3].
inline nb::tuple block_features(In<uint8_t> x, In<int16_t> pred, In<uint8_t> base, In<int16_t> log_table,
                                In<int32_t> where) {
  int h = int(x.shape(0)), w = int(x.shape(1));
  size_t n = where.shape(0);
  int16_t *out, *local;
  auto a = new_array<int16_t>({n, size_t(kFeatLossy)}, &out);
  auto b = new_array<int16_t>({n, 3}, &local);
  if (log_table.shape(0) != size_t(kLogEntries)) throw nb::value_error("log_table must have 4209 entries");
  {
    nb::gil_scoped_release free_gil;
    PatchSamples s(h, w, base.data());
    fill_patch(s, x.data(), w * 3);
    PatchResiduals r(h, w);
    for (int y = 0; y < h; ++y)
      for (int i = 0; i < w; ++i)
        for (int c = 0; c < 3; ++c) {
          size_t at = (size_t(y) * w + i) * 3 + c;
          put_residual(r.at(y, i), c, 16 * x.data()[at] - pred.data()[at], log_table.data());
        }
    for (size_t k = 0; k < n; ++k) {
      int y = where.data()[2 * k], i = where.data()[2 * k + 1];
      if (y < 0 || i < 0 || y >= h || i >= w) continue;
      int16_t f[kFeatures], b4[4];
      causal_features(kernels(), s, r, y, i, pred.data()[(size_t(y) * w + i) * 3], b4, f);
      for (int c = 0; c < 3; ++c) local[3 * k + c] = b4[c];
      for (int q = 0; q < kFeatLossy; ++q) out[k * kFeatLossy + q] = f[kFeatPlace.at[q]];
    }
  }
  return nb::make_tuple(a, b);
}

// Features of the named pixels under any causal context: taps int32 [t,2] of (dy, dx), the first `near` with residuals
// too. Outside the block samples are the base colour and residuals 0; the local base is the mean of the two first taps.
// As block_features otherwise.
inline nb::tuple context_features(In<uint8_t> x, In<int16_t> pred, In<uint8_t> base, In<int16_t> log_table,
                                  In<int32_t> where, In<int32_t> taps, int near) {
  if (x.ndim() != 3 || x.shape(2) != 3 || pred.size() != x.size() || base.size() != 3 || where.ndim() != 2 ||
      where.shape(1) != 2 || taps.ndim() != 2 || taps.shape(1) != 2)
    throw nb::value_error("x and pred [h,w,3], base [3], where [n,2] and taps [t,2] expected");
  const int h = int(x.shape(0)), w = int(x.shape(1)), nt = int(taps.shape(0));
  const size_t n = where.shape(0), row = size_t(3) * nt + size_t(6) * near + 1;
  if (nt < 2 || near < 0 || near > nt) throw nb::value_error("two taps at least, and no more near ones than taps");
  if (log_table.shape(0) != size_t(kLogEntries)) throw nb::value_error("log_table must have 4209 entries");
  int16_t *out, *local;
  auto a = new_array<int16_t>({n, row}, &out);
  auto b = new_array<int16_t>({n, 3}, &local);
  {
    nb::gil_scoped_release free_gil;
    auto at = [&](int y, int i) { return y < 0 || i < 0 || y >= h || i >= w ? -1L : (long(y) * w + i) * 3; };
    for (size_t k = 0; k < n; ++k) {
      const int y = where.data()[2 * k], i = where.data()[2 * k + 1];
      const long self = at(y, i);
      if (self < 0) continue;
      const auto place = [&](int t) { return at(y + taps.data()[2 * t], i + taps.data()[2 * t + 1]); };
      const auto sample = [&](long p, int c) { return int(p < 0 ? base.data()[c] : x.data()[p + c]); };
      int16_t* f = out + k * row;
      for (int c = 0; c < 3; ++c) local[3 * k + c] = int16_t((sample(place(0), c) + sample(place(1), c) + 1) >> 1);
      for (int t = 0; t < nt; ++t)
        for (int c = 0; c < 3; ++c) *f++ = int16_t(4 * (sample(place(t), c) - local[3 * k + c]));
      for (int t = 0; t < near; ++t, f += 6) {
        const long p = place(t);
        for (int c = 0; c < 3 && p >= 0; ++c)
          put_residual(f, c, 16 * x.data()[p + c] - pred.data()[p + c], log_table.data());
      }
      *f = int16_t(clampi(4 * pred.data()[self] - 64 * local[3 * k], -kActMax, kActMax));
    }
  }
  return nb::make_tuple(a, b);
}

// Code length in nats under the per-pixel network, summed over b crops, and its gradient, crop by crop. Inputs: causal
// int16 [b,cells,4,causal], lossy float32 [b,cells,4,15], trunk [b,cells,t], position int64 [b,cells,4], samples e,
// lower, upper [b,cells,4,3] in levels relative to the prediction. Weights with the conditioning of each crop folded
// in: first [b,causal+15,h], u [b,4,t,h], place [b,64,h], w [b,layers,h,h], bias [b,layers,h], out [b,h,75], out_bias
// [b,75]; h a multiple of 16. Gives (nats, gradients of lossy, trunk, first, u, place, w, bias, out, out_bias); without
// input_gradients the first two are empty.
inline nb::tuple pixel_net_nll(In<int16_t> causal, In<float> lossy, In<float> trunk, In<int64_t> position, In<float> e,
                               In<float> lower, In<float> upper, In<float> first, In<float> u, In<float> place,
                               In<float> w, In<float> bias, In<float> out, In<float> out_bias, bool input_gradients,
                               int threads, int family) {
  if (causal.ndim() != 4 || trunk.ndim() != 3 || w.ndim() != 4)
    throw nb::value_error("causal [b,cells,4,n], trunk [b,cells,t] and w [b,layers,h,h] expected");
  const size_t B = causal.shape(0), cells = causal.shape(1), C = causal.shape(3), T = trunk.shape(2), L = w.shape(1),
               H = w.shape(3), n = B * cells * 4;
  const bool fits = causal.shape(2) == 4 && lossy.size() == n * kLossyIn && trunk.size() == B * cells * T &&
                    position.size() == n && e.size() == n * 3 && lower.size() == n * 3 && upper.size() == n * 3 &&
                    first.size() == B * (C + kLossyIn) * H && u.size() == B * 4 * T * H && place.size() == B * 64 * H &&
                    w.size() == B * L * H * H && bias.size() == B * L * H && out.size() == B * H * kOutputs &&
                    out_bias.size() == B * kOutputs && H % 16 == 0 && L >= 1 && family >= kLogistic &&
                    family <= kGaussian;
  if (!fits)
    throw nb::value_error(
        "shapes of inputs and weights do not belong together, or the width is no multiple of 16, or the family is "
        "unknown");
  for (size_t i = 0; i < n; ++i)
    if (position.data()[i] < 0 || position.data()[i] > 63) throw nb::value_error("position must be in 0..63");
  float* g[9];
  auto gl = new_array<float>({input_gradients ? n : 0, size_t(kLossyIn)}, &g[0]);
  auto gt = new_array<float>({input_gradients ? B * cells : 0, T}, &g[1]);
  auto gf = new_array<float>({B, C + kLossyIn, H}, &g[2]);
  auto gu = new_array<float>({B, 4, T, H}, &g[3]);
  auto gp = new_array<float>({B, 64, H}, &g[4]);
  auto gw = new_array<float>({B, L, H, H}, &g[5]);
  auto gb = new_array<float>({B, L, H}, &g[6]);
  auto go = new_array<float>({B, H, size_t(kOutputs)}, &g[7]);
  auto gob = new_array<float>({B, size_t(kOutputs)}, &g[8]);
  std::vector<double> part(B, 0.0);
  {
    nb::gil_scoped_release free_gil;
    const NetSizes sizes{int(cells), int(C), int(T), int(H), int(L), family};
    std::atomic<size_t> next{0};
    auto work = [&] {
      for (size_t i; (i = next++) < B;) {
        NetCrop k{causal.data() + i * cells * 4 * C,
                  lossy.data() + i * cells * 4 * kLossyIn,
                  trunk.data() + i * cells * T,
                  position.data() + i * cells * 4,
                  e.data() + i * cells * 12,
                  lower.data() + i * cells * 12,
                  upper.data() + i * cells * 12,
                  first.data() + i * (C + kLossyIn) * H,
                  u.data() + i * 4 * T * H,
                  place.data() + i * 64 * H,
                  w.data() + i * L * H * H,
                  bias.data() + i * L * H,
                  out.data() + i * H * kOutputs,
                  out_bias.data() + i * kOutputs,
                  input_gradients ? g[0] + i * cells * 4 * kLossyIn : nullptr,
                  input_gradients ? g[1] + i * cells * T : nullptr,
                  g[2] + i * (C + kLossyIn) * H,
                  g[3] + i * 4 * T * H,
                  g[4] + i * 64 * H,
                  g[5] + i * L * H * H,
                  g[6] + i * L * H,
                  g[7] + i * H * kOutputs,
                  g[8] + i * kOutputs};
        part[i] = net_crop(sizes, k);
      }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < threads; ++i) pool.emplace_back(work);
    work();
    for (auto& th : pool) th.join();
  }
  double total = 0;
  for (double p : part) total += p;
  return nb::make_tuple(total, gl, gt, gf, gu, gp, gw, gb, go, gob);
}

}  // namespace dlpr

inline void bind_training(nb::module_& m) {
  m.def("linear_block", &dlpr::linear_block, "x"_a, "base"_a, "frac"_a = 10, "coef_bits"_a = 6.0, "floor_var"_a = 0.02,
        "max_taps"_a = dlpr::kTapValues, "max_classes"_a = dlpr::kMaxClasses, "context"_a = 3);
  m.def("block_features", &dlpr::block_features, "x"_a, "pred"_a, "base"_a, "log_table"_a, "where"_a);
  m.def("context_features", &dlpr::context_features, "x"_a, "pred"_a, "base"_a, "log_table"_a, "where"_a, "taps"_a,
        "near"_a);
  m.def("pixel_net_nll", &dlpr::pixel_net_nll, "causal"_a, "lossy"_a, "trunk"_a, "position"_a, "e"_a, "lower"_a,
        "upper"_a, "first"_a, "u"_a, "place"_a, "w"_a, "bias"_a, "out"_a, "out_bias"_a, "input_gradients"_a = true,
        "threads"_a = 1, "family"_a = 0);
}
