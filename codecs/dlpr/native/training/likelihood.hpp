// Training only: code length of samples under the logistic mixture, with its gradient, in one pass over the parameters.
// Float; the exact integer mixture is in networks/kernels_mixture.inl.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace dlpr {

constexpr int kComponents = 5;
constexpr int kOutputs = 75;
constexpr int kNllBlock = 32;

inline __attribute__((always_inline)) float exp_fast(float x) {
  x = x < -80.f ? -80.f : (x > 80.f ? 80.f : x);
  float t = x * 1.44269504f;
  int32_t i = int32_t(t + (t < 0 ? -0.5f : 0.5f));
  float f = (t - float(i)) * 0.69314718f;
  float p = 1.f + f * (1.f + f * (.5f + f * (.16666667f + f * (.04166666f + f * .00833333f))));
  int32_t bits = (i + 127) << 23;
  float s;
  std::memcpy(&s, &bits, 4);
  return p * s;
}
inline __attribute__((always_inline)) float log_fast(float x) {  // natural log of a positive normal float
  int32_t bits;
  std::memcpy(&bits, &x, 4);
  int32_t ex = ((bits - 0x3f3504f3) >> 23);
  int32_t mb = bits - (ex << 23);
  float m;
  std::memcpy(&m, &mb, 4);
  float s = (m - 1.f) / (m + 1.f), z = s * s;
  return float(ex) * 0.69314718f + 2.f * s * (1.f + z * (.33333333f + z * (.2f + z * (.14285714f + z * .11111111f))));
}
inline __attribute__((always_inline)) float sigmoid(float x) { return 1.f / (1.f + exp_fast(-x)); }

enum Family { kLogistic, kLaplace, kGaussian };

// Distribution function and density of a component with mean 0 and scale 1. Gaussian: Abramowitz and Stegun 7.1.26.
template <int F>
inline __attribute__((always_inline)) void cdf_pdf(float x, float& cdf, float& pdf) {
  if (F == kLogistic) {
    cdf = sigmoid(x), pdf = cdf * (1.f - cdf);
  } else if (F == kLaplace) {
    pdf = 0.5f * exp_fast(-fabsf(x)), cdf = x < 0 ? pdf : 1.f - pdf;
  } else {
    float g = exp_fast(-0.5f * x * x), t = 1.f / (1.f + 0.23164190f * fabsf(x));
    float tail =
        0.5f * g * t * (.254829592f + t * (-.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    pdf = 0.39894228f * g, cdf = x < 0 ? tail : 1.f - tail;
  }
}

// Rows of params and grad stand stride >= 75 apart. Planes of parameters in one row: mean 15, log scale 15, mean
// coefficient 15, scale coefficient 15, logit 15; each 3 x 5. The coefficients of slot 0 carry channel 0 to 1, slot 1
// carries 0 to 2, slot 2 carries 1 to 2.
template <int F>
inline __attribute__((always_inline)) double nll_rows_of(const float* params, const float* e, const float* dn,
                                                         const float* up, const uint8_t* used, long n, long stride,
                                                         float* grad, float* per_row) {
  constexpr int K = kComponents, NB = kNllBlock;
  double total = 0;
  float P[kOutputs][NB], G[kOutputs][NB], E[3][NB], D[3][NB], U[3][NB], LG[2][NB], bits[NB];
  for (long o = 0; o < n; o += NB) {
    int m = int(n - o < NB ? n - o : NB);
    for (int i = 0; i < NB; ++i) {
      const float* src = params + (o + (i < m ? i : 0)) * stride;
      for (int j = 0; j < kOutputs; ++j) P[j][i] = src[j];
      long q = (o + (i < m ? i : 0)) * 3;
      for (int c = 0; c < 3; ++c) E[c][i] = e[q + c], D[c][i] = dn[q + c], U[c][i] = up[q + c];
      bits[i] = 0;
    }
    for (int j = 0; j < kOutputs; ++j)
      for (int i = 0; i < NB; ++i) G[j][i] = 0.f;
    for (int c = 0; c < 2; ++c)
      for (int i = 0; i < NB; ++i) LG[c][i] = log_fast(1.f + fabsf(E[c][i])) * 1.44269504f;
    for (int c = 0; c < 3; ++c) {
      if (!used[c]) continue;
      float w[K][NB], mx[NB], sm[NB], tot[NB], Pk[K][NB], dm[K][NB], dl[K][NB], sgw[NB];
      const int W0 = 12 * K + c * K;
      for (int i = 0; i < NB; ++i) mx[i] = P[W0][i], sm[i] = 0, tot[i] = 1.f / 65536.f, sgw[i] = 0;
      for (int k = 1; k < K; ++k)
        for (int i = 0; i < NB; ++i) mx[i] = P[W0 + k][i] > mx[i] ? P[W0 + k][i] : mx[i];
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < NB; ++i) w[k][i] = exp_fast(P[W0 + k][i] - mx[i]), sm[i] += w[k][i];
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < NB; ++i) {
          w[k][i] /= sm[i];
          float mu = P[c * K + k][i] * 4.f, ls = P[(3 + c) * K + k][i];
          if (c == 1) mu += P[6 * K + k][i] * E[0][i], ls += P[9 * K + k][i] * LG[0][i];
          if (c == 2)
            mu += P[7 * K + k][i] * E[0][i] + P[8 * K + k][i] * E[1][i],
                ls += P[10 * K + k][i] * LG[0][i] + P[11 * K + k][i] * LG[1][i];
          float lsc = ls < -4.f ? -4.f : (ls > 6.f ? 6.f : ls);
          float s = exp_fast(-lsc), ca = U[c][i] - mu, cb = D[c][i] - mu;
          float xa = s * ca, xb = s * cb;
          xa = xa > 40.f ? 40.f : (xa < -40.f ? -40.f : xa);
          xb = xb > 40.f ? 40.f : (xb < -40.f ? -40.f : xb);
          float Sa, Sb, da, db, Ta, Tb, unused;
          cdf_pdf<F>(xa, Sa, da), cdf_pdf<F>(xb, Sb, db), cdf_pdf<F>(-xa, Ta, unused), cdf_pdf<F>(-xb, Tb, unused);
          // the difference of two values near 1 is lost in float: take it on the small side
          float pk = xb > 0.f ? Tb - Ta : Sa - Sb;
          Pk[k][i] = pk, tot[i] += w[k][i] * pk, dm[k][i] = -s * (da - db), dl[k][i] = -(da * xa - db * xb);
        }
      for (int i = 0; i < NB; ++i) bits[i] -= log_fast(tot[i]);
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < NB; ++i) {
          float g = -w[k][i] / tot[i], gm = g * dm[k][i], gl = g * dl[k][i];
          G[c * K + k][i] = 4.f * gm, G[(3 + c) * K + k][i] = gl;
          if (c == 1) G[6 * K + k][i] = gm * E[0][i], G[9 * K + k][i] = gl * LG[0][i];
          if (c == 2)
            G[7 * K + k][i] = gm * E[0][i], G[8 * K + k][i] = gm * E[1][i], G[10 * K + k][i] = gl * LG[0][i],
                      G[11 * K + k][i] = gl * LG[1][i];
          float q = g * Pk[k][i];
          G[W0 + k][i] = q, sgw[i] += q;
        }
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < NB; ++i) G[W0 + k][i] -= w[k][i] * sgw[i];
    }
    for (int i = 0; i < m; ++i) {
      total += bits[i];
      if (per_row) per_row[o + i] = bits[i];
      if (grad)
        for (int j = 0; j < kOutputs; ++j) grad[(o + i) * stride + j] = G[j][i];
    }
  }
  return total;
}

__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) inline double nll_rows(
    const float* params, const float* e, const float* dn, const float* up, const uint8_t* used, long n, long stride,
    float* grad, float* per_row, int family) {
  if (family == kLaplace) return nll_rows_of<kLaplace>(params, e, dn, up, used, n, stride, grad, per_row);
  if (family == kGaussian) return nll_rows_of<kGaussian>(params, e, dn, up, used, n, stride, grad, per_row);
  return nll_rows_of<kLogistic>(params, e, dn, up, used, n, stride, grad, per_row);
}

}  // namespace dlpr
