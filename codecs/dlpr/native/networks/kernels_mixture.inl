// Mixtures to cumulative frequencies (docs/format section 9), and the symbols of one step of a patch. Part of
// kernels_impl.hpp: compiled per instruction set.

// out[i][first + j] of n rows to columns[j][i], j < count (a multiple of 8); rows up to the next multiple of 8 are
// read.
void transpose(const int16_t* out, int n, int first, int count, int16_t* columns) {
#if defined(__AVX2__)
  for (int i = 0; i < n; i += 8)
    for (int j = 0; j < count; j += 8) {
      __m128i a[8], b[8];
      for (int k = 0; k < 8; ++k) a[k] = _mm_loadu_si128((const __m128i*)(out + (i + k) * kOutPadded + first + j));
      for (int k = 0; k < 4; ++k) {
        b[k] = _mm_unpacklo_epi16(a[2 * k], a[2 * k + 1]);
        b[4 + k] = _mm_unpackhi_epi16(a[2 * k], a[2 * k + 1]);
      }
      for (int k = 0; k < 4; ++k) {  // columns 2 k, 2 k + 1: pairs of rows 0 1, 2 3, 4 5, 6 7
        const __m128i* p = b + (k < 2 ? 0 : 4);
        const __m128i low = k & 1 ? _mm_unpackhi_epi32(p[0], p[1]) : _mm_unpacklo_epi32(p[0], p[1]);
        const __m128i high = k & 1 ? _mm_unpackhi_epi32(p[2], p[3]) : _mm_unpacklo_epi32(p[2], p[3]);
        int16_t* to = columns + (j + 2 * k) * kStep + i;
        _mm_storeu_si128((__m128i*)to, _mm_unpacklo_epi64(low, high));
        _mm_storeu_si128((__m128i*)(to + kStep), _mm_unpackhi_epi64(low, high));
      }
    }
#else
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < count; ++j) columns[j * kStep + i] = out[i * kOutPadded + first + j];
#endif
}

// Weights of the components of n rows: weight[5 c + k][i].
void weights(const Tables& t, const int16_t* out, int n, int32_t* weight) {
  alignas(64) int16_t logit[16 * kStep];
  transpose(out, n, kLogit, 16, logit);
  for (int i = 0; i < n; i += kLanes)
    for (int c = 0; c < 3; ++c) {
      Ints l[kK], w[kK];
      for (int k = 0; k < kK; ++k) l[k] = load(logit + (5 * c + k) * kStep + i);
      Ints top = l[0];
      for (int k = 1; k < kK; ++k) top = max(top, l[k]);
      for (int k = 0; k < kK; ++k) w[k] = look_up(t.exp, clamp(right<3>(sub(top, l[k])), 0, 511));
      Ints sum = w[0];
      for (int k = 1; k < kK; ++k) sum = add(sum, w[k]);
      const Ints r = reciprocal30(sum);
      Ints left = ints(32768);
      for (int k = 0; k < kK; ++k) {
        w[k] = right_zero<15>(mul(w[k], r));
        left = sub(left, w[k]);
      }
      for (int k = 0; k < kK; ++k) {  // what is left goes to the first with the largest logit
        w[k] = add(w[k], if_equal(l[k], top, left, ints(0)));
        left = if_equal(l[k], top, ints(0), left);
        store(weight + (5 * c + k) * kStep + i, w[k]);
      }
    }
}

// L_k of section 9 at bound, for mean loc and scale (mant and shift in one).
inline Ints logistic_at(const Tables& t, Ints bound, Ints loc, Ints scale) {
  Ints v = right(mul(sub(bound, loc), both(scale, ints(0xFFFF))), right_zero<16>(scale));
  v = add(clamp(v, -12288, 12287), ints(12288));
  const Ints e = look_up(t.logistic, right_zero<5>(v));
  return add(both(e, ints(0xFFFF)), right_zero<5>(mul(right_zero<16>(e), both(v, ints(31)))));
}

// F of section 9 from the sum S.
inline Ints frequency(Ints sum, Ints q, Ints lo, Ints hi) {
  const Ints n = add(sub(hi, lo), ints(1));
  Ints f = add(right_zero<16>(mul(right_zero<15>(sum), sub(ints(65536), n))), sub(q, lo));
  f = if_greater(q, hi, ints(65536), f);
  return if_greater(q, lo, f, ints(0));
}

// start[i] and freq[i] of the symbols of channel c of n rows whose samples are known.
void intervals(const Tables& t, const StepKnown& s, int c, int n, int32_t* start, int32_t* freq) {
  for (int i = 0; i < n; i += kLanes) {
    const auto output = [&](int at, int k) { return load(s.outputs + (at + k) * kStep + i); };
    const Ints e0 = load(s.e[0] + i), e1 = load(s.e[1] + i), g0 = load(s.g[0] + i), g1 = load(s.g[1] + i);
    const Ints pred = mul(load(s.pred + i), ints(4));
    const Ints q = load(s.symbol + i), lo = load(s.lo + i), hi = load(s.hi + i);
    const Ints bound = add(load(s.bound0 + i), mul(q, ints(s.bound_step))), next = add(bound, ints(s.bound_step));
    Ints sum = ints(0), sum_next = ints(0);
    for (int k = 0; k < kK; ++k) {
      Ints loc = add(pred, output(kMean + 5 * c, k)), log_scale = output(kLogScale + 5 * c, k);
      if (c == 1) {
        loc = add(loc, right<6>(mul(output(kMeanCoef, k), e0)));
        log_scale = add(log_scale, right<6>(mul(output(kScaleCoef, k), g0)));
      } else if (c == 2) {
        loc = add(add(loc, right<6>(mul(output(kMeanCoef + 5, k), e0))), right<6>(mul(output(kMeanCoef + 10, k), e1)));
        log_scale = add(add(log_scale, right<6>(mul(output(kScaleCoef + 5, k), g0))),
                        right<6>(mul(output(kScaleCoef + 10, k), g1)));
      }
      loc = clamp(loc, -16384, 32767);
      const Ints scale = look_up(t.scale, clamp(right<3>(add(log_scale, ints(1028))), 0, 320));
      const Ints w = load(s.weight + (5 * c + k) * kStep + i);
      sum = add(sum, mul(w, logistic_at(t, bound, loc, scale)));
      sum_next = add(sum_next, mul(w, logistic_at(t, next, loc, scale)));
    }
    const Ints f = frequency(sum, q, lo, hi);
    store(start + i, f);
    store(freq + i, sub(frequency(sum_next, add(q, ints(1)), lo, hi), f));
  }
}

// ---- decoder: one sample after another ----

// One sample's distribution; slots 5 to 7 let vector code write whole registers.
struct Mixture {
  alignas(32) int32_t loc[8], scale[8];
  const int32_t* weight;  // [5], kStep apart
};
// Symbols lo..hi of one sample; the bound below symbol q is bound0 + q bound_step (1/64 level).
struct GridRange {
  int lo, hi, bound0, bound_step;
};

inline void sample_mixture(const Tables& t, const int16_t* o, int c, int pred, const int* e, const int* g, Mixture& m) {
#if defined(__AVX2__)
  const auto row = [&](int at) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)(o + at))); };
  const auto term = [&](int at, int v) {
    return _mm256_srai_epi32(_mm256_mullo_epi32(row(at), _mm256_set1_epi32(v)), 6);
  };
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
  _mm256_store_si256((__m256i*)m.loc, loc);
  _mm256_store_si256((__m256i*)m.scale, _mm256_i32gather_epi32(t.scale, i, 4));
#else
  for (int k = 0; k < kK; ++k) {
    int32_t loc = 4 * pred + o[kMean + 5 * c + k], ls = o[kLogScale + 5 * c + k];
    if (c == 1) {
      loc += (o[kMeanCoef + k] * e[0]) >> 6, ls += (o[kScaleCoef + k] * g[0]) >> 6;
    } else if (c == 2) {
      loc += ((o[kMeanCoef + 5 + k] * e[0]) >> 6) + ((o[kMeanCoef + 10 + k] * e[1]) >> 6);
      ls += ((o[kScaleCoef + 5 + k] * g[0]) >> 6) + ((o[kScaleCoef + 10 + k] * g[1]) >> 6);
    }
    m.loc[k] = clamp_one(loc, -16384, 32767), m.scale[k] = t.scale[clamp_one((ls + 1028) >> 3, 0, 320)];
  }
#endif
}

// f[i] = F(q0 + i stride), i = 0..7; returns how many of them are at most slot.
inline int cumulative8(const Tables& t, const Mixture& m, const GridRange& r, int q0, int stride, uint32_t slot,
                       uint32_t* f) {
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
#pragma GCC unroll 5
  for (int k = 0; k < kK; ++k) {
    const __m256i scale = _mm256_set1_epi32(m.scale[k]);
    __m256i v = _mm256_mullo_epi32(_mm256_sub_epi32(b, _mm256_set1_epi32(m.loc[k])), _mm256_and_si256(scale, low16));
    v = _mm256_srav_epi32(v, _mm256_srli_epi32(scale, 16));
    v = _mm256_add_epi32(_mm256_max_epi32(_mm256_min_epi32(v, hi), lo), mid);
    const __m256i e = _mm256_i32gather_epi32(t.logistic, _mm256_srli_epi32(v, 5), 4);
    const __m256i l =
        _mm256_add_epi32(_mm256_and_si256(e, low16),
                         _mm256_srli_epi32(_mm256_madd_epi16(_mm256_srli_epi32(e, 16), _mm256_and_si256(v, low5)), 5));
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(l, _mm256_set1_epi32(m.weight[k * kStep])));
  }
  __m256i out = _mm256_srli_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(sum, 15), _mm256_set1_epi32(65536 - n)), 16);
  out = _mm256_add_epi32(out, _mm256_sub_epi32(q, first));
  out = _mm256_blendv_epi8(_mm256_set1_epi32(65536), out, _mm256_cmpgt_epi32(end, q));
  out = _mm256_and_si256(out, _mm256_cmpgt_epi32(q, first));
  _mm256_storeu_si256((__m256i*)f, out);
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(int(slot) + 1), out);
  return __builtin_popcount(unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(below))));
#else
  int below = 0;
  for (int i = 0; i < 8; ++i) {
    const int q = q0 + i * stride;
    if (q <= r.lo || q > r.hi) {
      f[i] = q <= r.lo ? 0 : 65536;
    } else {
      uint32_t sum = 0;
      for (int k = 0; k < kK; ++k)
        sum +=
            uint32_t(m.weight[k * kStep]) * uint32_t(logistic_at(t, r.bound0 + q * r.bound_step, m.loc[k], m.scale[k]));
      f[i] = (((sum >> 15) * uint32_t(65536 - n)) >> 16) + uint32_t(q - r.lo);
    }
    below += f[i] <= slot;
  }
  return below;
#endif
}

// The search goes on where the first eight symbols, from q0, do not hold slot: f and below are theirs.
__attribute__((noinline)) int find_further(const Tables& t, const Mixture& m, const GridRange& r, uint32_t slot, int q0,
                                           int below, uint32_t* f, uint32_t& start, uint32_t& freq) {
  int a = r.lo, b = r.hi + 1, stride = 1;  // F(a) <= slot < F(b)
  bool beside = true;                      // most of what is left is just beside the first eight
  uint32_t fa = 0, fb = 65536;
  while (true) {
    if (below > 0 && q0 + (below - 1) * stride > a) a = q0 + (below - 1) * stride, fa = f[below - 1];
    if (below < 8 && q0 + below * stride < b) b = q0 + below * stride, fb = f[below];
    if (b - a == 1) break;
    if (beside) q0 = below == 8 ? a + 1 : b - 8, beside = false;
    else stride = (b - a + 8) / 9, q0 = a + stride;
    below = cumulative8(t, m, r, q0, stride, slot, f);
  }
  start = fa, freq = fb - fa;
  return a;
}

// The symbol whose interval holds slot; the search begins around `guess`.
inline __attribute__((always_inline)) int find(const Tables& t, const Mixture& m, const GridRange& r, uint32_t slot,
                                               int guess, uint32_t& start, uint32_t& freq) {
  alignas(32) uint32_t f[8];
  const int q0 = clamp_one(guess - 3, r.lo, r.hi + 1), below = cumulative8(t, m, r, q0, 1, slot, f);
  if (below == 0 || below == 8) {
    uint32_t from, width;
    const int q = find_further(t, m, r, slot, q0, below, f, from, width);
    start = from, freq = width;
    return q;
  }
  start = f[below - 1], freq = f[below] - start;
  return q0 + below - 1;
}

// One pixel on its way.
struct PixelState {
  const PixelTask* task;
  const int16_t* out;
  Mixture m;
  int e[3], g[3];
};

inline __attribute__((always_inline)) void begin_pixel(const StepUnknown& s, int i, PixelState& v) {
  v.task = s.pixels + i, v.out = s.out + v.task->row * kOutPadded, v.m.weight = s.weight + v.task->row;
}

template <bool kExact>
inline __attribute__((always_inline)) void decode_sample(const StepUnknown& s, int c, PixelState& v) {
  const PixelTask& task = *v.task;
  LaneDecoder& lane = s.lanes[task.lane];
  const int tau = kExact ? 0 : s.tau, step = 2 * tau + 1;
  int16_t* p = task.sample;
  int32_t sum = task.prediction[c];
  for (int k = 0; k < c; ++k) sum += task.predictor[c].previous[k] * p[k];
  const int pred = finish_prediction(sum, task.predictor[c].shift);
  const Grid grid(kExact ? 0 : task.anchor[c], tau, kExact ? 1u << 22 : s.inverse, s.m, pred);
  int q = grid.lo;
  if (grid.hi > grid.lo) {
    sample_mixture(*s.tables, v.out, c, pred, v.e, v.g, v.m);
    uint32_t start, freq;
    q = find(*s.tables, v.m, {grid.lo, grid.hi, 64 * (grid.anchor - tau) - 32, 64 * step}, lane.slot(), grid.centre,
             start, freq);
    lane.take(start, freq);
  }
  v.m.weight += kK * kStep;
  if (q == grid.lo && grid.lo > grid.qmin) q = grid.lo - int(lane.uniform(uint32_t(grid.lo - grid.qmin + 1)));
  else if (q == grid.hi && grid.hi < grid.qmax) q = grid.hi + int(lane.uniform(uint32_t(grid.qmax - grid.hi + 1)));
  p[c] = int16_t(kExact ? q : grid.value(q));
  v.e[c] = 16 * p[c] - pred;
  v.g[c] = put_residual(task.residual, c, v.e[c], s.tables->log);
}

inline void end_pixel(const StepUnknown& s, const PixelState& v) {
  if (s.channels == 3) return;
  int16_t *p = v.task->sample, *slot = v.task->residual;
  p[1] = p[2] = p[0];
  for (int c = 1; c < 3; ++c) slot[c] = slot[0], slot[3 + c] = slot[3];
}

// A sample waits for the one before it in its lane. Two patches at a time: each works while the other waits.
template <bool kExact>
void decode_pixels(const StepUnknown& s, const StepUnknown* other) {
  int i = 0;
  PixelState v, w;
  if (other)
    for (const StepUnknown& t = *other; i < s.n && i < t.n; ++i) {
      begin_pixel(s, i, v), begin_pixel(t, i, w);
      for (int c = 0; c < s.channels; ++c) decode_sample<kExact>(s, c, v), decode_sample<kExact>(t, c, w);
      end_pixel(s, v), end_pixel(t, w);
    }
  const StepUnknown* both_steps[2] = {&s, other};
  for (const StepUnknown* t : both_steps)
    for (int k = i; t && k < t->n; ++k) {
      begin_pixel(*t, k, v);
      for (int c = 0; c < t->channels; ++c) decode_sample<kExact>(*t, c, v);
      end_pixel(*t, v);
    }
}

void decode_step(const StepUnknown* s, int count) {
  const bool pair = count == 2 && s[0].channels == s[1].channels && (s[0].tau == 0) == (s[1].tau == 0);
  for (int k = 0; k < count; k += pair ? 2 : 1)
    if (s[k].tau == 0) decode_pixels<true>(s[k], pair ? s + 1 : nullptr);
    else decode_pixels<false>(s[k], pair ? s + 1 : nullptr);
}
