// Mixed bits (docs/format section 17). Included once for each instruction set, in its namespace, by coder.inl; the
// plain loops define the result and the vectors equal them bit for bit.

// Value of a probability for the mixer: log2 of the odds in 1/256, by straight lines between powers of two.
inline int odds(uint32_t p) {
  auto line = [](uint32_t x) {
    const int k = 31 - __builtin_clz(x);
    return k << 8 | int((k > 8 ? x >> (k - 8) : x << (8 - k)) & 255);
  };
  return line(2 * p + 1) - line(131071 - 2 * p);
}

inline int16_t sat16(int v) { return int16_t(std::min(std::max(v, -32768), 32767)); }

// The slots of the eight inputs of a bit.
using Inputs = uint32_t* [kInputs];

template <class Coder>
class Mixer {
 public:
  Mixer(Coder& coder, size_t slots, int first, int second, const MixState* start)
      : coder_(coder), t_(mix_tables()), first_(size_t(first)), second_(size_t(second)) {
    // kept by the thread: fresh memory for every chunk costs more than filling it
    static thread_local std::vector<uint32_t> kept;
    if (kept.size() < slots + 16) kept.resize(slots + 16);
    slots_ = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(kept.data()) + 63) & ~uintptr_t(63));
    if (start) {
      std::copy_n(start->slots, slots, slots_);
      const int16_t* w = start->weights;
      for (auto* family : {&first_, &second_})
        for (Weights& s : *family) std::copy_n(w, kInputs, s.w), w += kInputs, s.n = kPriorUses;
    } else {
      std::fill_n(slots_, slots, kFreshSlot);
    }
  }

  uint32_t* slots() { return slots_; }
  void save(int16_t* w) const {
    for (auto* family : {&first_, &second_})
      for (const Weights& s : *family) std::copy_n(s.w, kInputs, w), w += kInputs;
  }

  // A bit from the slots p[0..7], which are different; inputs in `mirror` expect the other bit.
  template <bool kMirrored = false>
  DLPR_INLINE int bit(int value, const Inputs& p, int first, int second, uint32_t mirror = 0) {
    Weights &a = first_[size_t(first)], &b = second_[size_t(second)];
#if DLPR_AVX2
    __m256i v = _mm256_set_epi32(int(*p[7]), int(*p[6]), int(*p[5]), int(*p[4]), int(*p[3]), int(*p[2]), int(*p[1]),
                                 int(*p[0]));
    __m256i turned = _mm256_setzero_si256();
    if (kMirrored) {
      const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
      const __m256i set = _mm256_and_si256(_mm256_set1_epi32(int(mirror)), lanes);
      turned = _mm256_srli_epi32(_mm256_cmpeq_epi32(set, lanes), 16);
      v = _mm256_xor_si256(v, turned);
    }
    // the exponent and the first bits of the mantissa of a float are `line`, exactly: 17 bits fit
    const __m256i odd =
        _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xFFFF)), 1), _mm256_set1_epi32(1));
    const __m256i even = _mm256_sub_epi32(_mm256_set1_epi32(131072), odd);
    const __m256i diff = _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(odd)), 15),
                                          _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(even)), 15));
    const __m128i x = _mm_packs_epi32(_mm256_castsi256_si128(diff), _mm256_extracti128_si256(diff, 1));
    const __m128i wa = _mm_load_si128(reinterpret_cast<const __m128i*>(a.w));
    const __m128i wb = _mm_load_si128(reinterpret_cast<const __m128i*>(b.w));
    __m128i m = _mm_madd_epi16(_mm_adds_epi16(wa, wb), x);
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    const int dot = _mm_cvtsi128_si32(m);
#else
    uint32_t v[kInputs];
    int x[kInputs], dot = 0;
    for (int i = 0; i < kInputs; ++i) {
      v[i] = *p[i] ^ (kMirrored && (mirror >> i & 1) ? 0xFFFFu : 0u);
      x[i] = odds(v[i] & 0xFFFF);
      dot += sat16(a.w[i] + b.w[i]) * x[i];
    }
#endif
    const int one = t_.squash[std::min(std::max(dot >> 14, -2047), 2047) + 2047];
    const int got = coder_.code(value, uint32_t(one)), error = (got << 16) - one;
    const int ea = std::min(std::max((error * t_.learn[a.n]) >> 8, -32767), 32767);
    const int eb = std::min(std::max((error * t_.learn[b.n]) >> 8, -32767), 32767);
    a.n += a.n < kLearnMax, b.n += b.n < kLearnMax;
    const uint32_t flip = got ? 0xFFFFu : 0u;
#if DLPR_AVX2
    _mm_store_si128(reinterpret_cast<__m128i*>(a.w),
                    _mm_adds_epi16(wa, _mm_mulhrs_epi16(x, _mm_set1_epi16(int16_t(ea)))));
    _mm_store_si128(reinterpret_cast<__m128i*>(b.w),
                    _mm_adds_epi16(wb, _mm_mulhrs_epi16(x, _mm_set1_epi16(int16_t(eb)))));
    const __m256i flips = _mm256_set1_epi32(int(flip));
    v = _mm256_xor_si256(v, flips);
    const __m256i rates = _mm256_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15, 2, 3, 2, 3, 6, 7, 6,
                                           7, 10, 11, 10, 11, 14, 15, 14, 15);
    __m256i r = _mm256_shuffle_epi8(v, rates);
    r = _mm256_blend_epi16(r, _mm256_mulhi_epu16(r, _mm256_set1_epi16(int16_t(kRateDecay))), 0xAA);
    v = _mm256_mulhi_epu16(v, _mm256_xor_si256(r, _mm256_set1_epi32(-1)));
    v = _mm256_max_epu16(v, _mm256_set1_epi32(int(kSlowestRate << 16)));
    v = _mm256_xor_si256(v, flips);
    if (kMirrored) v = _mm256_xor_si256(v, turned);
    const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
    *p[0] = uint32_t(_mm_cvtsi128_si32(low)), *p[1] = uint32_t(_mm_extract_epi32(low, 1));
    *p[2] = uint32_t(_mm_extract_epi32(low, 2)), *p[3] = uint32_t(_mm_extract_epi32(low, 3));
    *p[4] = uint32_t(_mm_cvtsi128_si32(high)), *p[5] = uint32_t(_mm_extract_epi32(high, 1));
    *p[6] = uint32_t(_mm_extract_epi32(high, 2)), *p[7] = uint32_t(_mm_extract_epi32(high, 3));
#else
    for (int i = 0; i < kInputs; ++i) {
      a.w[i] = sat16(a.w[i] + ((x[i] * ea + (1 << 14)) >> 15));
      b.w[i] = sat16(b.w[i] + ((x[i] * eb + (1 << 14)) >> 15));
      *p[i] = learnt(v[i] ^ flip) ^ flip ^ (kMirrored && (mirror >> i & 1) ? 0xFFFFu : 0u);
    }
#endif
    return got;
  }

  // A bit from one slot alone.
  int plain(int value, uint32_t& slot) {
    const int got = coder_.code(value, std::min(std::max<uint32_t>(slot & 0xFFFF, 32), 65504u));
    const uint32_t flip = got ? 0xFFFFu : 0u;
    slot = learnt(slot ^ flip) ^ flip;
    return got;
  }

  // v >= 0 by Exp-Golomb with a slot for each bit, s[0..31].
  int golomb(int v, uint32_t* s) {
    int bits = 0, r = 1;
    while (bits < 13 && plain((v + 1) >> (bits + 1) != 0, s[bits])) ++bits;
    for (int i = bits - 1; i >= 0; --i) r = r << 1 | plain((v + 1) >> i & 1, s[16 + i]);
    return r - 1;
  }

  // A number 0..top: bits "is it larger?" from slots p + 0 .., sets first + 0 ..; p ends at the last.
  DLPR_INLINE int unary(int value, Inputs& p, int top, int first, int second) {
    int n = 0;
    for (; n < top; ++n) {
      if (!bit(value > n, p, first + n, second)) return n;
      for (auto& at : p) ++at;
    }
    return n;
  }

  // A magnitude, at least 1.
  DLPR_INLINE int magnitude(int size, Inputs& p, int first, int second, uint32_t* rest) {
    const int n = 1 + unary(size - 1, p, kUnary, first, second);
    return n > kUnary ? n + golomb(size - n, rest) : n;
  }

 private:
  struct alignas(16) Weights {
    int16_t w[kInputs];
    int n = 0;
    Weights() { std::fill(w, w + kInputs, int16_t(kFreshWeight)); }
  };

  // A slot after a bit, in terms of the other bit's probability.
  static uint32_t learnt(uint32_t v) {
    const uint32_t q = v & 0xFFFF, r = v >> 16, slower = r * (65535 - (r * kRateDecay >> 16)) >> 16;
    return (q * (65535 - r) >> 16) | std::max(slower, kSlowestRate) << 16;
  }

  Coder& coder_;
  const MixTables& t_;
  uint32_t* slots_;
  std::vector<Weights> first_, second_;
};
