// Compiled once per instruction set, inside namespace DLPR_ISA. No standard-library templates here: an inline function
// compiled with wide instructions must never be the copy that the linker keeps for everybody.
#include "kernels.hpp"
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
    for (int j = 0; j < kCols; ++j) z[p][2 * j] = rows[(2 * p) * kCols + j], z[p][2 * j + 1] = rows[(2 * p + 1) * kCols + j];
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
      for (int p = 0; p < 4; ++p) s = _mm256_add_epi32(s, _mm256_madd_epi16(b[p], _mm256_load_si256((const __m256i*)&z[p][2 * j])));
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
void dense_block(const int16_t* a, int a_stride, const int16_t* w, int pairs, int cout, int32_t* acc, bool add) {
  __m512i s[R][NB];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) s[r][b] = add ? _mm512_loadu_si512(acc + r * cout + b * 16) : _mm512_setzero_si512();
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
void dense_block(const int16_t* a, int a_stride, const int16_t* w, int pairs, int cout, int32_t* acc, bool add) {
  __m256i s[R][NB];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < NB; ++b) s[r][b] = add ? _mm256_loadu_si256((const __m256i*)(acc + r * cout + b * 8)) : _mm256_setzero_si256();
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
void dense_cols(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc, bool add) {
  constexpr int R = kWide == 16 ? (NB >= 5 ? 4 : NB == 4 ? 5 : 8) : (NB >= 2 ? 6 : 8);
  int i = 0;
  for (; i + R <= n; i += R) dense_block<NB, R>(a + i * a_stride, a_stride, w, pairs, cout, acc + i * cout, add);
  for (; i < n; ++i) dense_block<NB, 1>(a + i * a_stride, a_stride, w, pairs, cout, acc + i * cout, add);
}
void dense_any(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc, bool add) {
  int col = 0;
  constexpr int kMaxNb = kWide == 16 ? 5 : 2;
  while (col < cout) {
    int left = (cout - col) / kWide, nb = left > kMaxNb ? (left == kMaxNb + 1 ? (kMaxNb + 1) / 2 : kMaxNb) : left;
    const int16_t* wc = w + size_t(col) * 2;
    switch (nb) {
      case 1: dense_cols<1>(a, a_stride, n, wc, pairs, cout, acc + col, add); break;
      case 2: dense_cols<2>(a, a_stride, n, wc, pairs, cout, acc + col, add); break;
      case 3: dense_cols<3>(a, a_stride, n, wc, pairs, cout, acc + col, add); break;
      case 4: dense_cols<4>(a, a_stride, n, wc, pairs, cout, acc + col, add); break;
      default: dense_cols<5>(a, a_stride, n, wc, pairs, cout, acc + col, add); break;
    }
    col += nb * kWide;
  }
}
#else
void dense_any(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc, bool add) {
  for (int i = 0; i < n; ++i) {
    int32_t* s = acc + i * cout;
    if (!add)
      for (int c = 0; c < cout; ++c) s[c] = 0;
    for (int k = 0; k < pairs; ++k) {
      int32_t a0 = a[i * a_stride + 2 * k], a1 = a[i * a_stride + 2 * k + 1];
      const int16_t* wk = w + size_t(k) * cout * 2;
      for (int c = 0; c < cout; ++c) s[c] += a0 * wk[2 * c] + a1 * wk[2 * c + 1];
    }
  }
}
#endif

void dense(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc) {
  dense_any(a, a_stride, n, w, pairs, cout, acc, false);
}
void dense_add(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc) {
  dense_any(a, a_stride, n, w, pairs, cout, acc, true);
}

void requant(const int32_t* acc, int n, int cout, const int32_t* shift, const int16_t* mult, const int16_t* bias, int limit, int16_t* out) {
  for (int i = 0; i < n; ++i, acc += cout, out += cout) {
    int c = 0;
#if defined(__AVX2__)
    const __m256i one = _mm256_set1_epi32(1), hi = _mm256_set1_epi32(32767), lo = _mm256_set1_epi32(-32768), half = _mm256_set1_epi32(2048);
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

// rows -3, -2: 32 values from dx = -3; rows -1, 0: 16 values
int32_t window(const int16_t* p, int stride, const int16_t* coef) {
  const int16_t *a = p - 3 * stride - 9, *b = p - 2 * stride - 9, *c = p - stride - 9, *d = p - 9;
#if defined(__AVX2__)
  auto mul = [](const int16_t* x, const int16_t* w) { return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i*)x), _mm256_loadu_si256((const __m256i*)w)); };
  __m256i s = _mm256_add_epi32(_mm256_add_epi32(mul(a, coef), mul(a + 16, coef + 16)), _mm256_add_epi32(mul(b, coef + 32), mul(b + 16, coef + 48)));
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

void cdf8(const int32_t* bound, const int32_t* loc, const int32_t* mant, const int32_t* shift, const int32_t* weight, const uint32_t* logistic, uint32_t* out) {
#if defined(__AVX2__)
  const __m256i hi = _mm256_set1_epi32(12287), lo = _mm256_set1_epi32(-12288), mid = _mm256_set1_epi32(12288), low5 = _mm256_set1_epi32(31), low16 = _mm256_set1_epi32(0xFFFF);
  const __m256i b = _mm256_loadu_si256((const __m256i*)bound);
  __m256i sum = _mm256_setzero_si256();
  for (int k = 0; k < 5; ++k) {
    __m256i t = _mm256_mullo_epi32(_mm256_sub_epi32(b, _mm256_set1_epi32(loc[k])), _mm256_set1_epi32(mant[k]));
    t = _mm256_sra_epi32(t, _mm_cvtsi32_si128(shift[k]));
    t = _mm256_add_epi32(_mm256_max_epi32(_mm256_min_epi32(t, hi), lo), mid);
    __m256i e = _mm256_i32gather_epi32((const int*)logistic, _mm256_srli_epi32(t, 5), 4);
    __m256i slope = _mm256_srli_epi32(e, 16), frac = _mm256_and_si256(t, low5);
    __m256i v = _mm256_add_epi32(_mm256_and_si256(e, low16), _mm256_srli_epi32(_mm256_madd_epi16(slope, frac), 5));
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(v, _mm256_set1_epi32(weight[k])));
  }
  _mm256_storeu_si256((__m256i*)out, sum);
#else
  for (int i = 0; i < 8; ++i) {
    uint32_t sum = 0;
    for (int k = 0; k < 5; ++k) {
      int32_t t = ((bound[i] - loc[k]) * mant[k]) >> shift[k];
      t = (t > 12287 ? 12287 : t < -12288 ? -12288 : t) + 12288;
      uint32_t e = logistic[t >> 5];
      sum += uint32_t(weight[k]) * ((e & 0xFFFF) + (((e >> 16) * uint32_t(t & 31)) >> 5));
    }
    out[i] = sum;
  }
#endif
}

}  // namespace

extern const Kernels table;
const Kernels table = {DLPR_ISA_NAME, gram8, dense, dense_add, requant, leaky, window, cdf8};

}  // namespace DLPR_ISA
}  // namespace dlpr
