// Matrix products of the integer layers, and what follows them. Part of kernels_impl.hpp: compiled per instruction set.

constexpr int kLeakyShift = 3;

// Sums to activations, one value: the definition (docs/format section 4).
inline int16_t rescaled(int32_t acc, const Rescale& q, int c) {
  int32_t t = acc >> q.shift[c];
  t = t > 32767 ? 32767 : t < -32768 ? -32768 : t;
  int32_t v = (t * q.mult[c] + q.add[c]) >> 12;
  v = v > q.limit ? q.limit : v < -q.limit ? -q.limit : v;
  return int16_t(q.leaky && v < 0 ? v >> kLeakyShift : v);
}

#if defined(__AVX512BW__)
#if defined(__AVX512VNNI__)
inline __m512i mac(__m512i s, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(s, a, b); }
#else
inline __m512i mac(__m512i s, __m512i a, __m512i b) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, b)); }
#endif
using Sums = __m512i;
constexpr int kWide = 16, kRows = 8, kMostColumns = 3;
inline Sums load_sums(const int32_t* p) { return _mm512_loadu_si512(p); }
inline Sums load_weights(const int16_t* p) { return _mm512_loadu_si512(p); }
inline void store_sums(int32_t* p, Sums v) { _mm512_storeu_si512(p, v); }
inline Sums broadcast_pair(const int16_t* p) {
  int32_t two;
  __builtin_memcpy(&two, p, 4);
  return _mm512_set1_epi32(two);
}
inline Sums limit_sums(Sums acc, const Rescale& q, int c) {
  Sums t = _mm512_srav_epi32(acc, load_sums(q.shift + c));
  t = _mm512_max_epi32(_mm512_min_epi32(t, _mm512_set1_epi32(32767)), _mm512_set1_epi32(-32768));
  return _mm512_srai_epi32(_mm512_add_epi32(_mm512_mullo_epi32(t, load_sums(q.mult + c)), load_sums(q.add + c)), 12);
}
inline void store_rescaled(const Sums* s, int count, const Rescale& q, int c, const int16_t* skip, int16_t* out) {
  const __m256i top = _mm256_set1_epi16(int16_t(q.limit)), bottom = _mm256_set1_epi16(int16_t(-q.limit));
  for (int b = 0; b < count; ++b) {
    __m256i v = _mm512_cvtsepi32_epi16(limit_sums(s[b], q, c + 16 * b));
    v = _mm256_max_epi16(_mm256_min_epi16(v, top), bottom);
    if (q.leaky) v = _mm256_max_epi16(v, _mm256_srai_epi16(v, kLeakyShift));
    if (skip) {
      v = _mm256_add_epi16(v, _mm256_loadu_si256((const __m256i*)(skip + 16 * b)));
      v = _mm256_max_epi16(_mm256_min_epi16(v, top), bottom);
    }
    _mm256_storeu_si256((__m256i*)(out + 16 * b), v);
  }
}
#elif defined(__AVX2__)
inline __m256i mac(__m256i s, __m256i a, __m256i b) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, b)); }
using Sums = __m256i;
constexpr int kWide = 8, kRows = 4, kMostColumns = 2;
inline Sums load_sums(const int32_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Sums load_weights(const int16_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void store_sums(int32_t* p, Sums v) { _mm256_storeu_si256((__m256i*)p, v); }
inline Sums broadcast_pair(const int16_t* p) {
  int32_t two;
  __builtin_memcpy(&two, p, 4);
  return _mm256_set1_epi32(two);
}
inline Sums limit_sums(Sums acc, const Rescale& q, int c) {
  Sums t = _mm256_srav_epi32(acc, load_sums(q.shift + c));
  t = _mm256_max_epi32(_mm256_min_epi32(t, _mm256_set1_epi32(32767)), _mm256_set1_epi32(-32768));
  return _mm256_srai_epi32(_mm256_add_epi32(_mm256_mullo_epi32(t, load_sums(q.mult + c)), load_sums(q.add + c)), 12);
}
inline void store_rescaled(const Sums* s, int, const Rescale& q, int c, const int16_t* skip, int16_t* out) {
  const __m256i top = _mm256_set1_epi16(int16_t(q.limit)), bottom = _mm256_set1_epi16(int16_t(-q.limit));
  __m256i v = _mm256_packs_epi32(limit_sums(s[0], q, c), limit_sums(s[1], q, c + 8));
  v = _mm256_permute4x64_epi64(v, 0xD8);
  v = _mm256_max_epi16(_mm256_min_epi16(v, top), bottom);
  if (q.leaky) v = _mm256_max_epi16(v, _mm256_srai_epi16(v, kLeakyShift));
  if (skip) {
    v = _mm256_add_epi16(v, _mm256_loadu_si256((const __m256i*)skip));
    v = _mm256_max_epi16(_mm256_min_epi16(v, top), bottom);
  }
  _mm256_storeu_si256((__m256i*)out, v);
}
#endif

#if defined(__AVX2__)
// A block of kRows rows and B registers of columns, its sums in registers from the first to the last input.
template <int B>
struct Block {
  Sums s[kRows][B];
  inline __attribute__((always_inline)) void start(int r, const int32_t* from) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) s[r][b] = load_sums(from + b * kWide);
  }
  // rows at a[r], weights [pairs][stride][2]
  inline __attribute__((always_inline)) void add(const int16_t* const* rows, const int16_t* w, int stride, int pairs) {
    const int16_t* a[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) a[r] = rows[r];
    for (int k = 0; k < pairs; ++k, w += 2 * stride) {
      Sums wv[B];
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) wv[b] = load_weights(w + 2 * kWide * b);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Sums av = broadcast_pair(a[r] + 2 * k);
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) s[r][b] = mac(s[r][b], av, wv[b]);
      }
    }
  }
};

// Pointers to the rows of a block; rows beyond the last are the last once more, and not stored.
struct BlockRows {
  const int16_t* a[kRows];
  int count;
  BlockRows(const int16_t* rows, int stride, int first, int n) {
    count = n - first < kRows ? n - first : kRows;
    for (int r = 0; r < kRows; ++r) a[r] = rows + size_t(first + (r < count ? r : count - 1)) * stride;
  }
};

template <int B>
void dense_columns(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int column,
                   const int32_t* const* start, int32_t* acc) {
  for (int i = 0; i < n; i += kRows) {
    const BlockRows rows(a, a_stride, i, n);
    Block<B> block;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) block.start(r, start[i + (r < rows.count ? r : 0)] + column);
    block.add(rows.a, w + 2 * column, cout, pairs);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      if (r < rows.count)
        for (int b = 0; b < B; ++b) store_sums(acc + size_t(i + r) * cout + column + b * kWide, block.s[r][b]);
  }
}

template <int B>
void layer_columns(const LayerInput& in, const int16_t* w, int cout, int column, const Rescale& q, const int16_t* skip,
                   int16_t* out) {
  for (int i = 0; i < in.n; i += kRows) {
    BlockRows rows(in.a, in.stride, i, in.n);
    Block<B> block;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) block.start(r, q.start + column);
    const int16_t* part = w + 2 * column;
    for (int k = 0; k < in.parts; ++k, part += size_t(2) * cout * in.pairs) {
      block.add(rows.a, part, cout, in.pairs);
      for (int r = 0; r < kRows; ++r) rows.a[r] += in.part_stride;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      if (r < rows.count) {
        const size_t at = size_t(i + r) * cout + column;
        store_rescaled(block.s[r], B, q, column, skip ? skip + at : nullptr, out + at);
      }
  }
}

// How many registers of columns to take next of those that are left.
inline int take_columns(int left) { return left <= kMostColumns ? left : left == kMostColumns + 1 ? 2 : kMostColumns; }
#endif

#if defined(__AVX2__)
template <int Most>
void dense_any(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout,
               const int32_t* const* start, int32_t* acc) {
  for (int column = 0, b; column < cout; column += b * kWide) {
    b = take_columns((cout - column) / kWide);
    if (b == Most) {
      dense_columns<Most>(a, a_stride, n, w, pairs, cout, column, start, acc);
      continue;
    }
    if constexpr (Most == 3) {
      if (b == 2) dense_columns<2>(a, a_stride, n, w, pairs, cout, column, start, acc);
      else dense_columns<1>(a, a_stride, n, w, pairs, cout, column, start, acc);
    }
  }
}
template <int Most>
void layer_any(const LayerInput& in, const int16_t* w, int cout, const Rescale& q, const int16_t* skip, int16_t* out) {
  for (int column = 0, b; column < cout; column += b * kWide) {
    b = take_columns((cout - column) / kWide);
    if (b == Most) {
      layer_columns<Most>(in, w, cout, column, q, skip, out);
      continue;
    }
    if constexpr (Most == 3) {
      if (b == 2) layer_columns<2>(in, w, cout, column, q, skip, out);
      else layer_columns<1>(in, w, cout, column, q, skip, out);
    }
  }
}
#endif

void dense(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* const* start,
           int32_t* acc) {
#if defined(__AVX2__)
  dense_any<kMostColumns>(a, a_stride, n, w, pairs, cout, start, acc);
#else
  for (int i = 0; i < n; ++i) {
    int32_t* s = acc + i * cout;
    for (int c = 0; c < cout; ++c) s[c] = start[i][c];
    for (int k = 0; k < pairs; ++k) {
      const int32_t a0 = a[i * a_stride + 2 * k], a1 = a[i * a_stride + 2 * k + 1];
      const int16_t* wk = w + size_t(k) * cout * 2;
      for (int c = 0; c < cout; ++c) s[c] += a0 * wk[2 * c] + a1 * wk[2 * c + 1];
    }
  }
#endif
}

void layer(const LayerInput& in, const int16_t* w, int cout, const Rescale& q, const int16_t* skip, int16_t* out) {
#if defined(__AVX2__)
  layer_any<kMostColumns>(in, w, cout, q, skip, out);
#else
  for (int i = 0; i < in.n; ++i)
    for (int column = 0; column < cout; column += 16) {
      int32_t s[16];
      for (int c = 0; c < 16; ++c) s[c] = q.start[column + c];
      const int16_t* wc = w + 2 * column;
      for (int part = 0; part < in.parts; ++part) {
        const int16_t* a = in.a + ptrdiff_t(i) * in.stride + part * in.part_stride;
        for (int k = 0; k < in.pairs; ++k, wc += 2 * cout)
          for (int c = 0; c < 16; ++c) s[c] += a[2 * k] * wc[2 * c] + a[2 * k + 1] * wc[2 * c + 1];
      }
      for (int c = 0; c < 16; ++c) {
        const size_t at = size_t(i) * cout + column + c;
        int v = rescaled(s[c], q, column + c);
        if (skip) {
          v += skip[at];
          v = v > q.limit ? q.limit : v < -q.limit ? -q.limit : v;
        }
        out[at] = int16_t(v);
      }
    }
#endif
}

// Sums of the first layer: h, and t = leaky(h).
void rescale(const int32_t* acc, int n, int cout, const Rescale& q, int16_t* h, int16_t* t) {
  for (int i = 0; i < n; ++i, acc += cout, h += cout, t += cout) {
    int c = 0;
#if defined(__AVX2__)
    for (; c < cout; c += 16) {
      Sums s[16 / kWide];
      for (int b = 0; b < 16 / kWide; ++b) s[b] = load_sums(acc + c + b * kWide);
      store_rescaled(s, 16 / kWide, q, c, nullptr, h + c);
      const __m256i v = _mm256_loadu_si256((const __m256i*)(h + c));
      _mm256_storeu_si256((__m256i*)(t + c), _mm256_max_epi16(v, _mm256_srai_epi16(v, kLeakyShift)));
    }
#endif
    for (; c < cout; ++c) h[c] = rescaled(acc[c], q, c), t[c] = int16_t(h[c] < 0 ? h[c] >> kLeakyShift : h[c]);
  }
}
