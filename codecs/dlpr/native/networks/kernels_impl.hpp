// Compiled once per instruction set, inside namespace DLPR_ISA. No standard-library templates here: an inline function
// compiled with wide instructions must never be the copy that the linker keeps for everybody.
#include "networks/kernels.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace dlpr {
namespace DLPR_ISA {
namespace {

constexpr int kCols = 72;

void gram8(const int16_t* rows, int32_t* acc) {
#if defined(__AVX2__)
  alignas(64) int16_t z[4][kCols * 2];  // row pairs interleaved: z[p][2j], z[p][2j+1] = rows 2p, 2p+1 of column j
  for (int p = 0; p < 4; ++p)
    for (int j = 0; j < kCols; ++j)
      z[p][2 * j] = rows[(2 * p) * kCols + j], z[p][2 * j + 1] = rows[(2 * p + 1) * kCols + j];
  for (int i = 0; i < 70; ++i) {
    __m256i b[4];
    for (int p = 0; p < 4; ++p) {
      int32_t two;
      __builtin_memcpy(&two, &z[p][2 * i], 4);
      b[p] = _mm256_set1_epi32(two);
    }
    int32_t* out = acc + i * kCols;
    for (int j = i / 8 * 8; j < kCols; j += 8) {
      __m256i s = _mm256_loadu_si256((const __m256i*)(out + j));
      for (int p = 0; p < 4; ++p)
        s = _mm256_add_epi32(s, _mm256_madd_epi16(b[p], _mm256_load_si256((const __m256i*)&z[p][2 * j])));
      _mm256_storeu_si256((__m256i*)(out + j), s);
    }
  }
#else
  for (int r = 0; r < 8; ++r)
    for (int i = 0; i < 70; ++i)
      for (int j = i / 8 * 8; j < kCols; ++j) acc[i * kCols + j] += int32_t(rows[r * kCols + i]) * rows[r * kCols + j];
#endif
}

#if defined(__AVX512BW__)
#if defined(__AVX512VNNI__)
inline __m512i mac(__m512i s, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(s, a, b); }
#else
inline __m512i mac(__m512i s, __m512i a, __m512i b) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, b)); }
#endif
template <int NB, int R>
void dense_block(const int16_t* a, int a_stride, const int16_t* w, int pairs, int cout, const int32_t* init,
                 int32_t* acc) {
  __m512i s[R][NB];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) s[r][b] = _mm512_loadu_si512(init ? init + b * 16 : acc + r * cout + b * 16);
  for (int k = 0; k < pairs; ++k) {
    __m512i wv[NB];
    for (int b = 0; b < NB; ++b) wv[b] = _mm512_loadu_si512(w + (size_t(k) * cout + b * 16) * 2);
    for (int r = 0; r < R; ++r) {
      int32_t two;
      __builtin_memcpy(&two, a + r * a_stride + 2 * k, 4);
      __m512i av = _mm512_set1_epi32(two);
      for (int b = 0; b < NB; ++b) s[r][b] = mac(s[r][b], av, wv[b]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) _mm512_storeu_si512(acc + r * cout + b * 16, s[r][b]);
}
constexpr int kWide = 16;
#elif defined(__AVX2__)
template <int NB, int R>
void dense_block(const int16_t* a, int a_stride, const int16_t* w, int pairs, int cout, const int32_t* init,
                 int32_t* acc) {
  __m256i s[R][NB];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b)
      s[r][b] = _mm256_loadu_si256((const __m256i*)(init ? init + b * 8 : acc + r * cout + b * 8));
  for (int k = 0; k < pairs; ++k) {
    __m256i wv[NB];
    for (int b = 0; b < NB; ++b) wv[b] = _mm256_loadu_si256((const __m256i*)(w + (size_t(k) * cout + b * 8) * 2));
    for (int r = 0; r < R; ++r) {
      int32_t two;
      __builtin_memcpy(&two, a + r * a_stride + 2 * k, 4);
      __m256i av = _mm256_set1_epi32(two);
      for (int b = 0; b < NB; ++b) s[r][b] = _mm256_add_epi32(s[r][b], _mm256_madd_epi16(av, wv[b]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) _mm256_storeu_si256((__m256i*)(acc + r * cout + b * 8), s[r][b]);
}
constexpr int kWide = 8;
#endif

#if defined(__AVX2__)
// Columns are taken in groups of NB registers; weights of one group are at w + column*2 with the full cout as stride.
template <int NB>
void dense_cols(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* init,
                int32_t* acc) {
  constexpr int R = kWide == 16 ? (NB >= 5 ? 4 : NB == 4 ? 5 : 8) : (NB >= 2 ? 6 : 8);
  int i = 0;
  for (; i + R <= n; i += R) dense_block<NB, R>(a + i * a_stride, a_stride, w, pairs, cout, init, acc + i * cout);
  for (; i < n; ++i) dense_block<NB, 1>(a + i * a_stride, a_stride, w, pairs, cout, init, acc + i * cout);
}
void dense_any(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* init,
               int32_t* acc) {
  int col = 0;
  constexpr int kMaxNb = kWide == 16 ? 5 : 2;
  while (col < cout) {
    int left = (cout - col) / kWide, nb = left > kMaxNb ? (left == kMaxNb + 1 ? (kMaxNb + 1) / 2 : kMaxNb) : left;
    const int16_t* wc = w + size_t(col) * 2;
    switch (nb) {
      case 1: dense_cols<1>(a, a_stride, n, wc, pairs, cout, init ? init + col : nullptr, acc + col); break;
      case 2: dense_cols<2>(a, a_stride, n, wc, pairs, cout, init ? init + col : nullptr, acc + col); break;
      case 3: dense_cols<3>(a, a_stride, n, wc, pairs, cout, init ? init + col : nullptr, acc + col); break;
      case 4: dense_cols<4>(a, a_stride, n, wc, pairs, cout, init ? init + col : nullptr, acc + col); break;
      default: dense_cols<5>(a, a_stride, n, wc, pairs, cout, init ? init + col : nullptr, acc + col); break;
    }
    col += nb * kWide;
  }
}
#else
void dense_any(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* init,
               int32_t* acc) {
  for (int i = 0; i < n; ++i) {
    int32_t* s = acc + i * cout;
    if (init)
      for (int c = 0; c < cout; ++c) s[c] = init[c];
    for (int k = 0; k < pairs; ++k) {
      int32_t a0 = a[i * a_stride + 2 * k], a1 = a[i * a_stride + 2 * k + 1];
      const int16_t* wk = w + size_t(k) * cout * 2;
      for (int c = 0; c < cout; ++c) s[c] += a0 * wk[2 * c] + a1 * wk[2 * c + 1];
    }
  }
}
#endif

// With init the sums start there, without at acc.
void dense(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* init,
           int32_t* acc) {
  dense_any(a, a_stride, n, w, pairs, cout, init, acc);
}
void dense_add(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc) {
  dense_any(a, a_stride, n, w, pairs, cout, nullptr, acc);
}

void requant(const int32_t* acc, int n, int cout, const int32_t* shift, const int16_t* mult, const int16_t* bias,
             int limit, int16_t* out) {
  for (int i = 0; i < n; ++i, acc += cout, out += cout) {
    int c = 0;
#if defined(__AVX2__)
    const __m256i one = _mm256_set1_epi32(1), hi = _mm256_set1_epi32(32767), lo = _mm256_set1_epi32(-32768),
                  half = _mm256_set1_epi32(2048);
    const __m256i top = _mm256_set1_epi32(limit), bottom = _mm256_set1_epi32(-limit);
    for (; c + 8 <= cout; c += 8) {
      __m256i s = _mm256_loadu_si256((const __m256i*)(shift + c));
      __m256i r = _mm256_srli_epi32(_mm256_sllv_epi32(one, s), 1);
      __m256i t = _mm256_srav_epi32(_mm256_add_epi32(_mm256_loadu_si256((const __m256i*)(acc + c)), r), s);
      t = _mm256_max_epi32(_mm256_min_epi32(t, hi), lo);
      __m256i m = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)(mult + c)));
      __m256i b = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)(bias + c)));
      __m256i v = _mm256_add_epi32(_mm256_srai_epi32(_mm256_add_epi32(_mm256_mullo_epi32(t, m), half), 12), b);
      v = _mm256_max_epi32(_mm256_min_epi32(v, top), bottom);
      _mm_storeu_si128((__m128i*)(out + c), _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
    }
#endif
    for (; c < cout; ++c) {
      int32_t s = shift[c], t = (acc[c] + ((1 << s) >> 1)) >> s;
      t = t > 32767 ? 32767 : t < -32768 ? -32768 : t;
      int32_t v = ((t * mult[c] + 2048) >> 12) + bias[c];
      out[c] = int16_t(v > limit ? limit : v < -limit ? -limit : v);
    }
  }
}

void leaky(const int16_t* in, int count, int16_t* out) {
  for (int i = 0; i < count; ++i) out[i] = int16_t(in[i] < 0 ? in[i] >> 3 : in[i]);
}

void add_clamp(int16_t* t, const int16_t* h, int count) {
  for (int i = 0; i < count; ++i) {
    const int v = t[i] + h[i];  // both within 2047: int16 holds the sum
    t[i] = int16_t(v > 2047 ? 2047 : v < -2047 ? -2047 : v);
  }
}

void relative(const int16_t* in, const int16_t* base, int count, int16_t* out) {
  int16_t pattern[24];
  for (int i = 0; i < 24; i += 3) pattern[i] = base[0], pattern[i + 1] = base[1], pattern[i + 2] = base[2];
  for (int i = 0; i < count; ++i) out[i] = int16_t(4 * (in[i] - pattern[i]));
}

// rows -3, -2: 32 values from dx = -3; rows -1, 0: 16 values
int32_t window(const int16_t* p, int stride, const int16_t* coef) {
  const int16_t *a = p - 3 * stride - 9, *b = p - 2 * stride - 9, *c = p - stride - 9, *d = p - 9;
#if defined(__AVX2__)
  auto mul = [](const int16_t* x, const int16_t* w) {
    return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i*)x), _mm256_loadu_si256((const __m256i*)w));
  };
  __m256i s = _mm256_add_epi32(_mm256_add_epi32(mul(a, coef), mul(a + 16, coef + 16)),
                               _mm256_add_epi32(mul(b, coef + 32), mul(b + 16, coef + 48)));
  s = _mm256_add_epi32(s, _mm256_add_epi32(mul(c, coef + 64), mul(d, coef + 80)));
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1));
  return _mm_cvtsi128_si32(t);
#else
  int32_t s = 0;
  for (int i = 0; i < 32; ++i) s += a[i] * coef[i] + b[i] * coef[32 + i];
  for (int i = 0; i < 16; ++i) s += c[i] * coef[64 + i] + d[i] * coef[80 + i];
  return s;
#endif
}

inline int limit(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

// docs/format section 9, first half. e, g: residuals (1/16) and logs of the channels before c.
void mixture(const Tables& t, const int16_t* o, int c, int pred, const int* e, const int* g, Mixture& m) {
#if defined(__AVX2__)
  auto row = [&](int at) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)(o + at))); };
  auto term = [&](int at, int v) { return _mm256_srai_epi32(_mm256_mullo_epi32(row(at), _mm256_set1_epi32(v)), 6); };
  __m256i loc = _mm256_add_epi32(_mm256_set1_epi32(4 * pred), row(kMean + 5 * c)), ls = row(kLogScale + 5 * c);
  if (c == 1) {
    loc = _mm256_add_epi32(loc, term(kMeanCoef, e[0])), ls = _mm256_add_epi32(ls, term(kScaleCoef, g[0]));
  } else if (c == 2) {
    loc = _mm256_add_epi32(loc, _mm256_add_epi32(term(kMeanCoef + 5, e[0]), term(kMeanCoef + 10, e[1])));
    ls = _mm256_add_epi32(ls, _mm256_add_epi32(term(kScaleCoef + 5, g[0]), term(kScaleCoef + 10, g[1])));
  }
  loc = _mm256_max_epi32(_mm256_min_epi32(loc, _mm256_set1_epi32(32767)), _mm256_set1_epi32(-16384));
  __m256i i = _mm256_srai_epi32(_mm256_add_epi32(ls, _mm256_set1_epi32(1028)), 3);
  i = _mm256_max_epi32(_mm256_min_epi32(i, _mm256_set1_epi32(320)), _mm256_setzero_si256());
  _mm256_storeu_si256((__m256i*)m.loc, loc);
  _mm256_storeu_si256((__m256i*)m.mant, _mm256_i32gather_epi32(t.scale_mant, i, 4));
  _mm256_storeu_si256((__m256i*)m.shift, _mm256_i32gather_epi32(t.scale_shift, i, 4));
  const int16_t* logit = o + kLogit + 5 * c;
  int top = 0;
  for (int k = 1; k < kK; ++k)
    if (logit[k] > logit[top]) top = k;
  __m256i d = _mm256_srai_epi32(_mm256_sub_epi32(_mm256_set1_epi32(logit[top]), row(kLogit + 5 * c)), 3);
  d = _mm256_max_epi32(_mm256_min_epi32(d, _mm256_set1_epi32(511)),
                       _mm256_setzero_si256());  // slots 5 to 7 may be below 0
  __m256i w = _mm256_and_si256(_mm256_i32gather_epi32(t.exp, d, 4), _mm256_setr_epi32(-1, -1, -1, -1, -1, 0, 0, 0));
  __m128i q = _mm_add_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4E));
  q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0xB1));
  const uint32_t r = (1u << 30) / uint32_t(_mm_cvtsi128_si32(q));
  w = _mm256_srli_epi32(_mm256_mullo_epi32(w, _mm256_set1_epi32(int32_t(r))), 15);
  _mm256_storeu_si256((__m256i*)m.weight, w);
  m.weight[top] += 32768 - (m.weight[0] + m.weight[1] + m.weight[2] + m.weight[3] + m.weight[4]);
#else
  const int16_t* logit = o + kLogit + 5 * c;
  int top = 0;
  for (int k = 1; k < kK; ++k)
    if (logit[k] > logit[top]) top = k;
  uint32_t sum = 0, w[kK];
  for (int k = 0; k < kK; ++k) {
    int32_t loc = 4 * pred + o[kMean + 5 * c + k], ls = o[kLogScale + 5 * c + k];
    if (c == 1) {
      loc += (o[kMeanCoef + k] * e[0]) >> 6, ls += (o[kScaleCoef + k] * g[0]) >> 6;
    } else if (c == 2) {
      loc += ((o[kMeanCoef + 5 + k] * e[0]) >> 6) + ((o[kMeanCoef + 10 + k] * e[1]) >> 6);
      ls += ((o[kScaleCoef + 5 + k] * g[0]) >> 6) + ((o[kScaleCoef + 10 + k] * g[1]) >> 6);
    }
    m.loc[k] = limit(loc, -16384, 32767);
    const int i = limit((ls + 1028) >> 3, 0, 320);
    m.mant[k] = t.scale_mant[i], m.shift[k] = t.scale_shift[i];
    w[k] = uint32_t(t.exp[limit((logit[top] - logit[k]) >> 3, 0, 511)]);
    sum += w[k];
  }
  const uint32_t r = (1u << 30) / sum;
  int32_t left = 32768;
  for (int k = 0; k < kK; ++k) m.weight[k] = int32_t((w[k] * r) >> 15), left -= m.weight[k];
  m.weight[top] += left;
#endif
}

// docs/format section 9, second half: F at 8 symbols.
void cumulative8(const uint32_t* logistic, const Mixture& m, const GridRange& r, int q0, int stride, uint32_t* f) {
  const int n = r.hi - r.lo + 1;
#if defined(__AVX2__)
  const __m256i hi = _mm256_set1_epi32(12287), lo = _mm256_set1_epi32(-12288), mid = _mm256_set1_epi32(12288),
                low5 = _mm256_set1_epi32(31), low16 = _mm256_set1_epi32(0xFFFF);
  const __m256i first = _mm256_set1_epi32(r.lo), end = _mm256_set1_epi32(r.hi + 1);
  const __m256i q = _mm256_add_epi32(
      _mm256_set1_epi32(q0), _mm256_mullo_epi32(_mm256_set1_epi32(stride), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  const __m256i inside = _mm256_max_epi32(_mm256_min_epi32(q, end), first);
  const __m256i b =
      _mm256_add_epi32(_mm256_set1_epi32(r.bound0), _mm256_mullo_epi32(inside, _mm256_set1_epi32(r.bound_step)));
  __m256i sum = _mm256_setzero_si256();
  for (int k = 0; k < kK; ++k) {
    __m256i t = _mm256_mullo_epi32(_mm256_sub_epi32(b, _mm256_set1_epi32(m.loc[k])), _mm256_set1_epi32(m.mant[k]));
    t = _mm256_sra_epi32(t, _mm_cvtsi32_si128(m.shift[k]));
    t = _mm256_add_epi32(_mm256_max_epi32(_mm256_min_epi32(t, hi), lo), mid);
    const __m256i e = _mm256_i32gather_epi32((const int*)logistic, _mm256_srli_epi32(t, 5), 4);
    const __m256i v =
        _mm256_add_epi32(_mm256_and_si256(e, low16),
                         _mm256_srli_epi32(_mm256_madd_epi16(_mm256_srli_epi32(e, 16), _mm256_and_si256(t, low5)), 5));
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(v, _mm256_set1_epi32(m.weight[k])));
  }
  __m256i out = _mm256_srli_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(sum, 15), _mm256_set1_epi32(65536 - n)), 16);
  out = _mm256_add_epi32(out, _mm256_sub_epi32(q, first));
  out = _mm256_blendv_epi8(_mm256_set1_epi32(65536), out, _mm256_cmpgt_epi32(end, q));
  out = _mm256_and_si256(out, _mm256_cmpgt_epi32(q, first));
  _mm256_storeu_si256((__m256i*)f, out);
#else
  for (int i = 0; i < 8; ++i) {
    const int q = q0 + i * stride;
    if (q <= r.lo || q > r.hi) {
      f[i] = q <= r.lo ? 0 : 65536;
      continue;
    }
    uint32_t sum = 0;
    for (int k = 0; k < kK; ++k) {
      const int32_t t =
          limit(((r.bound0 + q * r.bound_step - m.loc[k]) * m.mant[k]) >> m.shift[k], -12288, 12287) + 12288;
      const uint32_t e = logistic[t >> 5];
      sum += uint32_t(m.weight[k]) * ((e & 0xFFFF) + (((e >> 16) * uint32_t(t & 31)) >> 5));
    }
    f[i] = (((sum >> 15) * uint32_t(65536 - n)) >> 16) + uint32_t(q - r.lo);
  }
#endif
}

}  // namespace

extern const Kernels table;
const Kernels table = {DLPR_ISA_NAME, gram8,    dense,  dense_add, requant,    leaky,
                       add_clamp,     relative, window, mixture,   cumulative8};

}  // namespace DLPR_ISA
}  // namespace dlpr
