// Integers side by side, as many as a register holds: 16, 8 or one. Part of kernels_impl.hpp: compiled per instruction
// set. What is written with them is the same on every one, and its scalar form the definition.

#if defined(__AVX512BW__)
using Ints = __m512i;
constexpr int kLanes = 16;
inline Ints ints(int32_t v) { return _mm512_set1_epi32(v); }
inline Ints load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline Ints load(const int16_t* p) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
inline void store(int32_t* p, Ints v) { _mm512_storeu_si512(p, v); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints mul(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
inline Ints min(Ints a, Ints b) { return _mm512_min_epi32(a, b); }
inline Ints max(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
inline Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
template <int N>
inline Ints right(Ints a) {
  return _mm512_srai_epi32(a, N);
}
template <int N>
inline Ints right_zero(Ints a) {
  return _mm512_srli_epi32(a, N);
}
inline Ints right(Ints a, Ints n) { return _mm512_srav_epi32(a, n); }
inline Ints look_up(const int32_t* table, Ints i) { return _mm512_i32gather_epi32(i, table, 4); }
inline Ints if_equal(Ints a, Ints b, Ints yes, Ints no) {
  return _mm512_mask_blend_epi32(_mm512_cmpeq_epi32_mask(a, b), no, yes);
}
inline Ints if_greater(Ints a, Ints b, Ints yes, Ints no) {
  return _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(a, b), no, yes);
}
// floor(2^30 / v), v in 2^15 .. 2^18: doubles are exact enough, as the quotient is 1 / v away from the next integer
inline Ints reciprocal30(Ints v) {
  const __m512d one = _mm512_set1_pd(1 << 30);
  const __m256i low = _mm512_cvttpd_epi32(_mm512_div_pd(one, _mm512_cvtepi32_pd(_mm512_castsi512_si256(v))));
  const __m256i high = _mm512_cvttpd_epi32(_mm512_div_pd(one, _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(v, 1))));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
#elif defined(__AVX2__)
using Ints = __m256i;
constexpr int kLanes = 8;
inline Ints ints(int32_t v) { return _mm256_set1_epi32(v); }
inline Ints load(const int32_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Ints load(const int16_t* p) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline void store(int32_t* p, Ints v) { _mm256_storeu_si256((__m256i*)p, v); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
inline Ints mul(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
inline Ints min(Ints a, Ints b) { return _mm256_min_epi32(a, b); }
inline Ints max(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
inline Ints both(Ints a, Ints b) { return _mm256_and_si256(a, b); }
template <int N>
inline Ints right(Ints a) {
  return _mm256_srai_epi32(a, N);
}
template <int N>
inline Ints right_zero(Ints a) {
  return _mm256_srli_epi32(a, N);
}
inline Ints right(Ints a, Ints n) { return _mm256_srav_epi32(a, n); }
inline Ints look_up(const int32_t* table, Ints i) { return _mm256_i32gather_epi32(table, i, 4); }
inline Ints if_equal(Ints a, Ints b, Ints yes, Ints no) {
  return _mm256_blendv_epi8(no, yes, _mm256_cmpeq_epi32(a, b));
}
inline Ints if_greater(Ints a, Ints b, Ints yes, Ints no) {
  return _mm256_blendv_epi8(no, yes, _mm256_cmpgt_epi32(a, b));
}
// floor(2^30 / v), v in 2^15 .. 2^18: doubles are exact enough, as the quotient is 1 / v away from the next integer
inline Ints reciprocal30(Ints v) {
  const __m256d one = _mm256_set1_pd(1 << 30);
  const __m128i low = _mm256_cvttpd_epi32(_mm256_div_pd(one, _mm256_cvtepi32_pd(_mm256_castsi256_si128(v))));
  const __m128i high = _mm256_cvttpd_epi32(_mm256_div_pd(one, _mm256_cvtepi32_pd(_mm256_extracti128_si256(v, 1))));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
#else
using Ints = int32_t;
constexpr int kLanes = 1;
inline Ints ints(int32_t v) { return v; }
inline Ints load(const int32_t* p) { return *p; }
inline Ints load(const int16_t* p) { return *p; }
inline void store(int32_t* p, Ints v) { *p = v; }
inline Ints add(Ints a, Ints b) { return a + b; }
inline Ints sub(Ints a, Ints b) { return a - b; }
inline Ints mul(Ints a, Ints b) { return int32_t(uint32_t(a) * uint32_t(b)); }
inline Ints min(Ints a, Ints b) { return a < b ? a : b; }
inline Ints max(Ints a, Ints b) { return a > b ? a : b; }
inline Ints both(Ints a, Ints b) { return a & b; }
template <int N>
inline Ints right(Ints a) {
  return a >> N;
}
template <int N>
inline Ints right_zero(Ints a) {
  return int32_t(uint32_t(a) >> N);
}
inline Ints right(Ints a, Ints n) { return a >> n; }
inline Ints look_up(const int32_t* table, Ints i) { return table[i]; }
inline Ints if_equal(Ints a, Ints b, Ints yes, Ints no) { return a == b ? yes : no; }
inline Ints if_greater(Ints a, Ints b, Ints yes, Ints no) { return a > b ? yes : no; }
inline Ints reciprocal30(Ints v) { return (1 << 30) / v; }
#endif
inline Ints clamp(Ints v, int lo, int hi) { return max(min(v, ints(hi)), ints(lo)); }
inline int clamp_one(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }
