// Coefficients of a JPEG 2000 image, adaptively coded. Included once for each instruction set by coder.inl.

enum J2kKind { kCells, kGrow, kSign, kDetail, kFind, kRefine, kKindsAll };

constexpr int kMaxRel = 7;
constexpr int kKindSlots[kKindsAll] = {1, 1, 1, 1, 1, 1};
constexpr int kDepths = 5, kPlaces = 4 * kDepths;  // orientation and depth of a band
constexpr int kContexts[kKindsAll][kInputs] = {
    {512, 512, 512, 512, 512, 512, 160, 320},
    {1920, 1152, 1152, 1152, 1152, 1152, 1728, 3200},
    {324, 324, 512, 512, 729, 729, 1024, 160},
    {512, 512, 512, 512, 512, 512, 512, 512},
    {864, 800, 480, 480, 480, 512, 512, 480},
    {512, 512, 512, 512, 512, 512, 512, 512},
};
constexpr int kFirst[kKindsAll] = {0, 8, 64, 72, 88, 96}, kFirstSets = 104, kSecondSets = kPlaces * 8;
constexpr int kPlainSlots = 32 * 8 + 6 * 64;

constexpr size_t j2k_component_slots() {
  size_t n = kPlainSlots;
  for (int k = 0; k < kKindsAll; ++k)
    for (int i = 0; i < kInputs; ++i) n += size_t(kContexts[k][i]) * size_t(kKindSlots[k]);
  return n;
}

inline int bit_length(uint32_t v) { return v ? 32 - __builtin_clz(v) : 0; }
inline int small(int v, int top) { return std::min(v, top); }

// What later bands need of a band. Amplitudes are in half steps, the middle of what is known, with a border of zeros.
struct J2kKnown {
  static constexpr int kBorder = 2;
  int rows = 0, cols = 0, stride = 0, cell_stride = 0;
  std::vector<int32_t> value, soft;
  std::vector<int8_t> sign;
  std::vector<uint8_t> cell;  // bit length of the largest magnitude in 4 x 4, border 1
  void make(int r, int c) {
    rows = r, cols = c, stride = c + 2 * kBorder, cell_stride = (c + 3) / 4 + 2;
    value.assign(size_t(stride) * (r + 2 * kBorder), 0);
    soft.assign(value.size(), 0), sign.assign(value.size(), 0);
    cell.assign(size_t(cell_stride) * ((r + 3) / 4 + 2), 0);
  }
  size_t at(int y, int x) const { return size_t(y + kBorder) * stride + x + kBorder; }
  size_t cell_at(int y, int x) const { return size_t(y + 1) * cell_stride + x + 1; }
  void soften() {
    for (int y = 0; y < rows; ++y) {
      const int32_t* v = &value[at(y, 0)];
      int32_t* s = &soft[at(y, 0)];
      for (int x = 0; x < cols; ++x)
        s[x] = 4 * v[x] + 2 * (v[x - 1] + v[x + 1] + v[x - stride] + v[x + stride]) + v[x - stride - 1] +
               v[x - stride + 1] + v[x + stride - 1] + v[x + stride + 1];
    }
  }
};

template <class Coder>
class J2kCoefficientCoder {
 public:
  double* bits = nullptr;
  J2kCoefficientCoder(Coder& coder, const J2kFields& f, const MixState* start)
      : coder_(coder),
        f_(f),
        mix_(coder, j2k_component_slots() * size_t(f.components), kFirstSets * f.components,
             kSecondSets * f.components, start) {}
  Mixer<Coder>& mixer() { return mix_; }

  bool run(J2kArrays& a) {
    std::vector<J2kKnown> known(a.bands.size());
    for (size_t i = 0; i < a.bands.size(); ++i) {
      const J2kBand& b = a.bands[i];
      known[i].make(b.rows(), b.cols());
      band_ = &b, me_ = &known[i];
      parent_ = one_ = two_ = nullptr;
      const int depth = depth_of(b);
      for (size_t j = 0; j < i; ++j) {
        const J2kBand& o = a.bands[j];
        if (o.tile != b.tile || o.orientation != b.orientation) continue;
        if (o.component == b.component && b.resolution >= 2 && o.resolution == b.resolution - 1) parent_ = &known[j];
        if (o.component < b.component && depth_of(o) == depth && o.rows() == b.rows() && o.cols() == b.cols())
          (o.component == b.component - 1 ? one_ : two_) = &known[j];
      }
      if (b.component == 2 && !one_) std::swap(one_, two_);
      enter(b.component);
      place_ = b.orientation * kDepths + std::min(depth, kDepths) - 1 + (depth == 0);
      if (!band(a.q[i], a.passes[i], a.missing[i])) return false;
      me_->soften();
    }
    return true;
  }

 private:
  int depth_of(const J2kBand& b) const { return f_.comp[b.component].levels - std::max(b.resolution - 1, 0); }
  void enter(int cls) {
    cls_ = cls;
    uint32_t* p = mix_.slots() + size_t(cls) * j2k_component_slots();
    for (int k = 0; k < kKindsAll; ++k)
      for (int i = 0; i < kInputs; ++i) base_[k][i] = p, p += size_t(kContexts[k][i]) * size_t(kKindSlots[k]);
    plain_ = p;
  }
  template <J2kKind kKind>
  DLPR_INLINE void place(Inputs& p, const int (&context)[kInputs]) const {
    for (int i = 0; i < kInputs; ++i) {
#ifdef CHECK
      if (context[i] < 0 || context[i] >= kContexts[kKind][i]) { fprintf(stderr, "kind %d input %d context %d\n", kKind, i, context[i]); abort(); }
#endif
      p[i] = base_[kKind][i] + kKindSlots[kKind] * context[i];
    }
  }
  int first(J2kKind k, int i = 0) const { return cls_ * kFirstSets + kFirst[k] + i; }
  int second(int i) const { return cls_ * kSecondSets + place_ * 8 + i; }
#ifdef STATS
#define NOTE(k) (coder_.kind = k)
#else
#define NOTE(k)
#endif

  int golomb_signed(int v, uint32_t* s) {
    const int m = mix_.golomb(v < 0 ? -2 * v - 1 : 2 * v, s);
    return m & 1 ? -(m + 1) / 2 : m / 2;
  }

  bool band(int32_t* q, uint8_t* passes, uint8_t* missing) {
    const J2kBand& b = *band_;
    int last_missing = 0, last_end = 0;  // of the block before
    bool any = false;
    (void)any;
    for (int r = 0; r < b.grid_rows; ++r)
      for (int c = 0; c < b.grid_cols; ++c) {
        const size_t k = size_t(r) * b.grid_cols + c;
        NOTE(6);
        // blocks without passes
        int n = passes[k], z = missing[k];
        uint32_t* s = plain_ + 6 * 64;
        if (!mix_.plain(n != 0, s[any ? 1 : 0])) { passes[k] = missing[k] = 0; continue; }
        z = last_missing + golomb_signed(z - last_missing, s + 32 * (1 + any));
        const int planes = b.planes - z;
        if (planes < 1 || planes > kJ2kMaxPlanes || z < 0) return false;
        // end: passes that are missing from the lowest plane
        int end = 3 * planes - 2 - n;
        end = last_end + golomb_signed(end - last_end, s + 32 * (3 + any));
        n = 3 * planes - 2 - end;
        if (n < 1 || n > 3 * planes - 2) return false;
        passes[k] = uint8_t(n), missing[k] = uint8_t(z);
        last_missing = z, last_end = end, any = true;
        int t, l, bo, ri;
        b.block(r, c, &t, &l, &bo, &ri);
        if (!block(q, t, l, bo - t, ri - l, planes, n)) return false;
      }
    return true;
  }

  bool block(int32_t* q, int t, int l, int h, int w, int planes, int passes) {
    const int full = 1 + (passes - 1) / 3, extra = (passes - 1) % 3;
    low_ = planes - full, top_ = full;
    cells(q, t, l, h, w);
    grow(q, t, l, h, w);
    if (extra) more(q, t, l, h, w, extra);
    return !coder_.overrun();
  }

  // ---- classes of cells: bit length of the largest magnitude >> low_
  void cells(const int32_t* q, int t, int l, int h, int w) {
    NOTE(0);
    const int cs = me_->cell_stride, stride = band_->cols();
    for (int cy = t >> 2; cy <= (t + h - 1) >> 2; ++cy)
      for (int cx = l >> 2; cx <= (l + w - 1) >> 2; ++cx) {
        const size_t at = me_->cell_at(cy, cx);
        const int y0 = std::max(4 * cy, t), y1 = std::min(4 * cy + 4, t + h), x0 = std::max(4 * cx, l),
                  x1 = std::min(4 * cx + 4, l + w);
        int value = 0;
        if (!Coder::kDecodes) {
          uint32_t m = 0;
          for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x) m |= uint32_t(std::abs(q[size_t(y) * stride + x])) >> low_;
          value = bit_length(m);
        }
        const uint8_t* c = &me_->cell[at];
        auto rel = [&](int v) { return std::min(std::max(v - low_, 0), 7); };
        const int W = rel(c[-1]), N = rel(c[-cs]), NE = rel(c[-cs + 1]), NW = rel(c[-cs - 1]);
        int P = 0, PS = 0;
        if (parent_) {
          const int py = std::min(2 * cy, parent_->rows - 1), px = std::min(2 * cx, parent_->cols - 1);
          const size_t pa = parent_->at(py, px);
          const int ps = parent_->stride;
          const int32_t* v = &parent_->value[pa];
          P = rel(bit_length(uint32_t(std::max(std::max(v[0], v[1]), std::max(v[ps], v[ps + 1]))) >> 1));
          const int32_t* s = &parent_->soft[pa];
          PS = fine_level((s[0] + s[1] + s[ps] + s[ps + 1]) >> low_ >> 2);
        }
        int C1 = 0, C2 = 0, C1n = 0;
        if (one_) {
          const uint8_t* o = &one_->cell[at];
          C1 = rel(o[0]);
          C1n = rel(std::max(std::max(o[-1], o[1]), std::max(o[-cs], o[cs])));
        }
        if (two_) C2 = rel(two_->cell[at]);
        int n = 0;
        for (; n < top_; ++n) {
          const int i = std::min(n, 7), K = std::min(top_ - n, 7);
          Inputs p;
          place<kCells>(p, {(i * 8 + W) * 8 + N, (i * 8 + std::min(7, (NE + NW + 1) >> 1)) * 8 + std::min(7, (W + N + 1) >> 1), (i * 8 + P) * 8 + std::max(W, N),
                            one_ ? (i * 8 + C1) * 8 + C2 : (i * 8 + P) * 8 + NE, (i * 8 + C1) * 8 + C1n,
                            (i * 8 + P) * 8 + C1, K * kPlaces + place_, i * 40 + PS});
          if (!mix_.bit(value > n, p, first(kCells, i), second(0))) break;
        }
        me_->cell[at] = std::max<uint8_t>(me_->cell[at], uint8_t(n ? n + low_ : 0));
      }
  }

  struct Near {
    int w, e, n, s, nw, ne, sw, se;
  };

  // A coefficient's reference: what parent and components say, in half steps of the plane
  struct Cross {
    int par, c1, c1n, c2;
  };
  DLPR_INLINE Cross cross(int y, int x, size_t at) const {
    Cross r{0, 0, 0, 0};
    if (parent_) r.par = parent_->soft[parent_->at(std::min(y >> 1, parent_->rows - 1), std::min(x >> 1, parent_->cols - 1))];
    if (one_) r.c1 = one_->value[at], r.c1n = one_->soft[at];
    if (two_) r.c2 = two_->value[at];
    return r;
  }

  int sign(int minus, const int8_t* s, const int32_t* v, size_t at) {
    NOTE(2);
    const int st = me_->stride;
    const int W = s[-1], E = s[1], N = s[-st], S = s[st];
    const int o = band_->orientation;
    const int s1 = one_ ? one_->sign[at] : 0, s2 = two_ ? two_->sign[at] : 0;
    const int l1 = one_ ? std::min(level(one_->value[at] >> low_), 7) : 0;
    const int l2 = two_ ? std::min(level(two_->value[at] >> low_), 7) : 0;
    const int leadH = W ? W : E, leadV = N ? N : S, lead4 = leadH ? leadH : leadV;
    auto t3 = [](int v, int lead) { return lead < 0 ? 1 - v : 1 + v; };
    const int a4 = ((t3(W, lead4) * 3 + t3(E, lead4)) * 3 + t3(N, lead4)) * 3 + t3(S, lead4);
    const int NW = s[-st - 1], NE = s[-st + 1], WW = s[-2], NN = s[-2 * st];
    const int leadB = N ? N : W ? W : NN ? NN : WW ? WW : NW ? NW : NE;
    const int b6 = ((((t3(N, leadB) * 3 + t3(W, leadB)) * 3 + t3(NN, leadB)) * 3 + t3(WW, leadB)) * 3 + t3(NW, leadB)) * 3 + t3(NE, leadB);
    const int h = W * v[-1] + E * v[1], ve = N * v[-st] + S * v[st];
    const int hl = level(std::abs(h) >> low_), vl = level(std::abs(ve) >> low_);
    const int leadX = h ? h : ve;
    Inputs p;
    const int leadC = s1 ? s1 : s2;
    place<kSign>(p, {a4 * 4 + o, (((t3(s1, lead4) * 3 + t3(s2, lead4)) * 9) + t3(leadH, lead4) * 3 + t3(leadV, lead4)) * 4 + o,
                     (l1 * 8 + l2) * 4 + (s1 && s2 && s1 != s2) * 2 + (s1 != 0), l2 * 20 + place_, b6, b6,
                     (std::min(hl, 7) * 8 + std::min(vl, 7)) * 16 + ((ve < 0) != (leadX < 0)) * 4 + o + (h != 0) * 8, place_});
    const uint32_t mirror = (lead4 < 0 ? 1u | 2u : 0u) | (leadC < 0 ? 4u : 0u) | (s2 < 0 ? 8u : 0u) |
                            (leadB < 0 ? 16u | 32u : 0u) | (leadX < 0 ? 64u : 0u);
    return mix_.template bit<true>(minus, p, first(kSign), second(1), mirror);
  }

  // ---- magnitudes >> low_, by bit length
  void grow(int32_t* q, int t, int l, int h, int w) {
    const int cs = me_->cell_stride, stride = band_->cols(), st = me_->stride, o = band_->orientation;
    const int wW = o == 1 ? 3 : o == 2 ? 6 : 4, wN = 9 - wW - (o == 0 || o == 3), wWW = o == 1 ? 1 : 2, wNN = o == 2 ? 1 : 2;
    left_.assign(size_t(cs), 0), reached_.assign(size_t(cs), 0), filled_.assign(size_t(cs), 0);
    for (int y = t; y < t + h; ++y) {
      if (y == t || !(y & 3)) {
        const int tall = std::min((y | 3) + 1, t + h) - y;
        for (int cx = l >> 2; cx <= (l + w - 1) >> 2; ++cx)
          left_[cx] = tall * (std::min(4 * cx + 4, l + w) - std::max(4 * cx, l)), reached_[cx] = 0, filled_[cx] = 0;
      }
      for (int cx = l >> 2; cx <= (l + w - 1) >> 2; ++cx) {
        const uint8_t* cell = &me_->cell[me_->cell_at(y >> 2, cx)];
        const int cls = cell[0] - low_;
        if (cls <= 0) continue;
        const int Ec = std::max(cell[1] - low_, 0), Sc = std::max(cell[cs] - low_, 0);
        for (int x = std::max(4 * cx, l); x < std::min(4 * cx + 4, l + w); ++x) {
          const size_t at = me_->at(y, x), k = size_t(y) * stride + x;
          int32_t* v = &me_->value[at];
          const int E16 = wW * v[-1] + wN * v[-st] + 2 * (v[-st - 1] + v[-st + 1]) + wWW * v[-2] + wNN * v[-2 * st];
          const Cross r = cross(y, x, at);
          const uint32_t m = uint32_t(std::abs(q[k])) >> low_;
          const int size = bit_length(m);
          NOTE(1);
          int n = 0;
          for (; n < cls; ++n) {
            if (n == cls - 1 && left_[cx] == 1 && !reached_[cx]) { n = cls; break; }
            const int sh = low_ + n, rc = std::min(cls - n, 5), i = std::min(n, 3);
            const int e = fine_level(E16 >> sh >> 2), le = level(E16 >> sh >> 3), lw = level(v[-1] >> sh), ln = level(v[-st] >> sh);
            const int par = level(r.par >> sh >> 4), c1 = level(r.c1 >> sh), c1n = level(r.c1n >> sh >> 3), c2 = level(r.c2 >> sh);
            const int Er = std::min(std::max(Ec - n, 0), 3), Sr = std::min(std::max(Sc - n, 0), 3);
            const int g = fine_level((2 * E16 + r.par + r.c1n) >> sh >> 4);
            Inputs p;
            place<kGrow>(p, {(rc * 8 + i * 2 + (reached_[cx] != 0)) * 40 + e, (rc * 12 + lw) * 12 + ln, (rc * 12 + par) * 12 + le,
                             one_ ? (rc * 12 + c1) * 12 + c1n : (rc * 12 + par) * 12 + std::min(Er * 3 + Sr, 11),
                             two_ ? (rc * 12 + c2) * 12 + c1n : (rc * 12 + c1n) * 12 + le,
                             (rc * 12 + std::min(int(filled_[cx]), 11)) * 16 + std::min(left_[cx] - 1, 15),
                             ((rc * 4 + Er) * 4 + Sr) * 12 + le, (place_ * 4 + i) * 40 + g});
            if (!mix_.bit(size > n, p, first(kGrow, std::min(n, 7) * 6 + rc), second(2 + i))) break;
          }
          --left_[cx];
          if (!n) { if (Coder::kDecodes) q[k] = 0; continue; }
          ++filled_[cx];
          reached_[cx] |= n == cls;
          const int minus = sign(q[k] < 0, &me_->sign[at], v, at);
          NOTE(3);
          uint32_t got = 1;
          for (int j = n - 2, d = 0; j >= 0; --j, ++d) {
            if (d < 2) {
              const int sh = low_ + n - 1, e = level(E16 >> sh >> 2), par = level(r.par >> sh >> 3), c1 = level(2 * r.c1 >> sh), c2 = level(2 * r.c2 >> sh), c1n=level(r.c1n>>sh>>2);
              const int base = d ? 1 + (got & 1) : 0, i = std::min(n, 5) ;
              Inputs p;
              place<kDetail>(p, {base * 40 + fine_level(E16 >> sh >> 1), base * 12 + par, (base * 12 + c1) * 12 + c2, (base * 12 + c1n), (base * 6 + i) * 20 + place_,
                                 (base * 12 + level(2 * v[-1] >> sh)) * 12 + level(2 * v[-st] >> sh), (base * 12 + e) * 12 + par, (base * 12 + e) * 12 + c1n});
              got = got << 1 | uint32_t(mix_.bit(int(m >> j & 1), p, first(kDetail, base), second(6)));
            } else {
              got = got << 1 | uint32_t(mix_.plain(int(m >> j & 1), plain_[std::min(n, 15) * 16 + std::min(j, 15)]));
            }
          }
          const int32_t all = int32_t(got << low_);
          if (Coder::kDecodes) q[k] = minus ? -all : all;
          *v = std::min<int64_t>((int64_t(got) * 2 + 1) << low_, kTop);
          me_->sign[at] = minus ? -1 : 1;
        }
      }
    }
  }

  // ---- passes of the plane below
  void more(int32_t* q, int t, int l, int h, int w, int extra) {
    const int P = low_ - 1, W2 = w + 2, st = me_->stride, stride = band_->cols(), o = band_->orientation;
    const bool causal = f_.comp[band_->component].causal;
    sig_.assign(size_t(W2) * (h + 2), 0);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) sig_[size_t(y + 1) * W2 + x + 1] = me_->value[me_->at(t + y, l + x)] != 0;
    --low_;
    if (extra == 2) was_ = sig_;
    for (int y0 = 0; y0 < h; y0 += 4)
      for (int x = 0; x < w; ++x)
        for (int y = y0; y < std::min(y0 + 4, h); ++y) {
          uint8_t* s = &sig_[size_t(y + 1) * W2 + x + 1];
          if (*s) continue;
          int hs = s[-1] + s[1], vs = s[-W2], ds = s[-W2 - 1] + s[-W2 + 1];
          if (!(causal && y == y0 + 3)) vs += s[W2], ds += s[W2 - 1] + s[W2 + 1];
          if (!(hs | vs | ds)) continue;
          const int Y = t + y, X = l + x;
          const size_t at = me_->at(Y, X), k = size_t(Y) * stride + X;
          int32_t* v = &me_->value[at];
          const Cross r = cross(Y, X, at);
          int A = v[-1] + v[1], B = v[-st] + v[st];
          const int D = v[-st - 1] + v[-st + 1] + v[st - 1] + v[st + 1], F = v[-2] + v[2] + v[-2 * st] + v[2 * st];
          if (o == 1) std::swap(A, B), std::swap(hs, vs);
          const int E = 3 * A + 2 * B + D;
          NOTE(4);
          const int e = fine_level(E >> P >> 1), la = level(A >> P >> 0), lb = level(B >> P >> 0), ld = level(D >> P >> 0);
          const int par = level(r.par >> P >> 3), c1 = level(r.c1 >> P), c1n = level(r.c1n >> P >> 3), c2 = level(r.c2 >> P);
          const int lf = level(F >> P >> 1), label = (hs * 3 + vs) * 5 + ds;
          const int g = fine_level((2 * E + r.par + r.c1n) >> P >> 3);
          Inputs p;
          place<kFind>(p, {(std::min(la,11) * 12 + lb) * 6 + std::min(ld, 5), place_ * 40 + e, par * 40 + e, one_ ? c1n * 40 + e: lf * 40 + e, two_ ? c2 * 40 + e : c1 * 40 + e,
                           label * 4 + o, one_ ? (c1 * 12 + c2) * 3 + std::min(2, c1n) : par * 12 + lf , lf * 40 + g});
          if (!mix_.bit((std::abs(q[k]) >> P) & 1, p, first(kFind, std::min(hs + vs + ds, 7)), second(7))) continue;
          const int minus = sign(q[k] < 0, &me_->sign[at], v, at);
          if (Coder::kDecodes) q[k] = minus ? -(1 << P) : 1 << P;
          *s = 1;
          *v = std::min<int64_t>(int64_t(3) << P, kTop);
          me_->sign[at] = minus ? -1 : 1;
          uint8_t& cell = me_->cell[me_->cell_at(Y >> 2, X >> 2)];
          cell = std::max<uint8_t>(cell, uint8_t(P + 1));
        }
    if (extra == 2)
      for (int y = 0; y < h; ++y)
        for (int x = 0; x < w; ++x) {
          if (!was_[size_t(y + 1) * W2 + x + 1]) continue;
          const int Y = t + y, X = l + x;
          const size_t at = me_->at(Y, X), k = size_t(Y) * stride + X;
          int32_t* v = &me_->value[at];
          const Cross r = cross(Y, X, at);
          int A = v[-1] + v[1], B = v[-st] + v[st];
          const int D = v[-st - 1] + v[-st + 1] + v[st - 1] + v[st + 1];
          if (o == 1) std::swap(A, B);
          const int E = 3 * A + 2 * B + D, mag = std::abs(q[k]) >> (P + 1), m = std::min(mag, 7);
          NOTE(5);
          const int e = fine_level(E >> P >> 3), par = level(r.par >> P >> 5), c1 = level(r.c1 >> P >> 1), c1n = level(r.c1n >> P >> 5), c2 = level(r.c2 >> P >> 1);
          Inputs p;
          place<kRefine>(p, {m * 40 + e, (std::min(m, 3)*12 + par) * 8, m * 12 + c1, m * 12 + c1n, m * 20 + place_, m * 12 + c2, m * 12 + level(A >> P >> 1), m * 12 + level(B >> P >> 1)});
          const int bit = mix_.bit((std::abs(q[k]) >> P) & 1, p, first(kRefine, m), second(7));
          if (Coder::kDecodes) q[k] += (q[k] < 0 ? -bit : bit) << P;
          *v = std::min<int64_t>((int64_t(2 * mag + bit) * 2 + 1) << P, kTop);
        }
  }

  static constexpr int64_t kTop = (1 << 21) - 1;
  Coder& coder_;
  const J2kFields& f_;
  Mixer<Coder> mix_;
  uint32_t *base_[kKindsAll][kInputs], *plain_ = nullptr;
  const J2kBand* band_ = nullptr;
  J2kKnown* me_ = nullptr;
  const J2kKnown *parent_ = nullptr, *one_ = nullptr, *two_ = nullptr;
  int cls_ = 0, place_ = 0, low_ = 0, top_ = 0;
  std::vector<int> left_;
  std::vector<uint8_t> reached_, filled_, sig_, was_;
};
