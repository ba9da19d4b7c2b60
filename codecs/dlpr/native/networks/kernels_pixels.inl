// What one pixel takes from its surroundings: sums of the linear stage, features. Part of kernels_impl.hpp: compiled
// per instruction set.

// sums[c] = samples times coefficients of q[c] over four rows of the window that ends at p; rows -3, -2: 32 values from
// dx = -3; rows -1, 0: 16 values.
void windows(const int16_t* p, int stride, const WindowPredictor* q, int32_t* sums) {
  const int16_t *a = p - 3 * stride - 9, *b = p - 2 * stride - 9, *c = p - stride - 9, *d = p - 9;
#if defined(__AVX2__)
  const auto from = [](const int16_t* x) { return _mm256_loadu_si256((const __m256i*)x); };
  const __m256i x[6] = {from(a), from(a + 16), from(b), from(b + 16), from(c), from(d)};
  __m256i s[3];
#pragma GCC unroll 3
  for (int k = 0; k < 3; ++k) {
    const int16_t* w = q[k].window;
    s[k] = _mm256_add_epi32(
        _mm256_add_epi32(_mm256_madd_epi16(x[0], from(w)), _mm256_madd_epi16(x[1], from(w + 16))),
        _mm256_add_epi32(_mm256_madd_epi16(x[2], from(w + 32)), _mm256_madd_epi16(x[3], from(w + 48))));
    s[k] = _mm256_add_epi32(
        s[k], _mm256_add_epi32(_mm256_madd_epi16(x[4], from(w + 64)), _mm256_madd_epi16(x[5], from(w + 80))));
  }
  const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[2]));
  alignas(16) int32_t out[4];
  _mm_store_si128((__m128i*)out, _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1)));
  for (int k = 0; k < 3; ++k) sums[k] = out[k] + q[k].constant;
#else
  for (int k = 0; k < 3; ++k) {
    const int16_t* w = q[k].window;
    int32_t s = q[k].constant;
    for (int i = 0; i < 32; ++i) s += a[i] * w[i] + b[i] * w[32 + i];
    for (int i = 0; i < 16; ++i) s += c[i] * w[64 + i] + d[i] * w[80 + i];
    sums[k] = s;
  }
#endif
}

// Features from decoded pixels, in kernel order: 66 taps less the local base, 66 residuals and logs; base receives b of
// section 8. p, e: the pixel's places in samples and residuals. Up to 7 values behind the features are overwritten.
void causal(const int16_t* p, int stride, const int16_t* e, int e_stride, int16_t* base, int16_t* f) {
#if defined(__AVX2__)
  const __m128i b =
      _mm_avg_epu16(_mm_loadl_epi64((const __m128i*)(p - stride)), _mm_loadl_epi64((const __m128i*)(p - 3)));
  _mm_storel_epi64((__m128i*)base, b);
  const __m128i at0 = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3),
                at8 = _mm_setr_epi8(4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1),
                at16 = _mm_setr_epi8(2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5);
  const __m256i b0 =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_shuffle_epi8(b, at0)), _mm_shuffle_epi8(b, at8), 1);
  const __m128i b16 = _mm_shuffle_epi8(b, at16);
  const auto first = [&](const int16_t* from, int16_t* to) {
    const __m256i v = _mm256_sub_epi16(_mm256_loadu_si256((const __m256i*)from), b0);
    _mm256_storeu_si256((__m256i*)to, _mm256_slli_epi16(v, 2));
  };
  const auto second = [&](const int16_t* from, int16_t* to) {
    const __m128i v = _mm_sub_epi16(_mm_loadu_si128((const __m128i*)from), b16);
    _mm_storeu_si128((__m128i*)to, _mm_slli_epi16(v, 2));
  };
  first(p - 3 * stride - 9, f), second(p - 3 * stride + 7, f + 16);
  first(p - 2 * stride - 9, f + 21), second(p - 2 * stride + 7, f + 37);
  first(p - stride - 9, f + 42), first(p - 9, f + 57);
#else
  for (int c = 0; c < 3; ++c) base[c] = int16_t((p[-3 + c] + p[-stride + c] + 1) >> 1);
  const auto relative = [&](const int16_t* from, int count, int16_t* to) {
    for (int i = 0; i < count; ++i) to[i] = int16_t(4 * (from[i] - base[i % 3]));
  };
  relative(p - 3 * stride - 9, 21, f), relative(p - 2 * stride - 9, 21, f + 21);
  relative(p - stride - 9, 15, f + 42), relative(p - 9, 9, f + 57);
#endif
  __builtin_memcpy(f + 66, e - 2 * e_stride - 12, 30 * sizeof(int16_t));
  __builtin_memcpy(f + 96, e - e_stride - 12, 24 * sizeof(int16_t));
  __builtin_memcpy(f + 120, e - 12, 12 * sizeof(int16_t));
}

// The 15 features of x~ in kernel order: pixels (0,0) (0,1), then (1,-1) (1,0) (1,1), less the local base. Up to 7
// values behind them are overwritten.
void around(const int16_t* here, const int16_t* below, const int16_t* base, int16_t* f) {
#if defined(__AVX2__)
  const __m128i b = _mm_loadl_epi64((const __m128i*)base);
  const __m128i at0 = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3),
                at8 = _mm_setr_epi8(4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1);
  const __m128i b0 = _mm_shuffle_epi8(b, at0), b8 = _mm_shuffle_epi8(b, at8);
  const auto put = [](const int16_t* from, __m128i less, int16_t* to) {
    const __m128i v = _mm_sub_epi16(_mm_loadu_si128((const __m128i*)from), less);
    _mm_storeu_si128((__m128i*)to, _mm_slli_epi16(v, 2));
  };
  put(here, b0, f), put(below, b0, f + 6), put(below + 8, b8, f + 14);
#else
  for (int i = 0; i < 6; ++i) f[i] = int16_t(4 * (here[i] - base[i % 3]));
  for (int i = 0; i < 9; ++i) f[6 + i] = int16_t(4 * (below[i] - base[i % 3]));
#endif
}
