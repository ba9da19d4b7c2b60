// Bindings of the colour layer, a translation unit of their own.
#include "bindings/arrays.hpp"
#include "colour/planes.hpp"
#include "common/parallel.hpp"
#include "jpeg/codec.hpp"
#include <memory>

namespace dlpr {

using Samples = In<uint8_t>;

// (denominator, luma, red, blue, green of blue, green of red, offset, rounding, products)
static Lattice lattice_of(nb::tuple t) {
  if (t.size() != 9) throw nb::value_error("lattice fields");
  auto n = [&](int i) { return nb::cast<int>(t[i]); };
  Lattice l = matrix_of(n(0), n(1), n(2), n(3), n(4), n(5), n(6));
  l.rounding = Rounding(n(7)), l.products = Products(n(8));
  if (!l.good()) throw nb::value_error("lattice field out of range");
  return l;
}

// (filter, v, h, py, px)
static ChromaShape shape_of(nb::tuple t) {
  if (t.size() != 5) throw nb::value_error("chroma fields");
  auto n = [&](int i) { return nb::cast<int>(t[i]); };
  const ChromaShape s{Filter(n(0)), n(1), n(2), n(3), n(4)};
  if (!s.good()) throw nb::value_error("chroma field out of range");
  return s;
}

static void check_pixels_shape(const Samples& x) {
  if (x.ndim() != 3 || x.shape(2) != 3 || !x.shape(0) || !x.shape(1) || x.shape(0) * x.shape(1) > (size_t(1) << 26))
    throw nb::value_error("pixels must be [H,W,3]");
}

// images: list of uint8 [H,W,3] (red, green, blue) -> list of None or
// (share of colours on the lattice, matrix, rounding, products, chroma fields, luma, cb, cr)
static nb::list colour_analyse_batch(nb::list images, bool sizes, int threads) {
  std::vector<Samples> in;
  for (nb::handle i : images) {
    in.push_back(nb::cast<Samples>(i));
    check_pixels_shape(in.back());
  }
  std::vector<ColourPlanes> found(in.size());
  std::vector<char> good(in.size(), 0);
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(in.size()), threads, [&](int i) {
      good[size_t(i)] = ColourAnalysis(in[size_t(i)].data(), int(in[size_t(i)].shape(0)), int(in[size_t(i)].shape(1)))
                            .run(found[size_t(i)], sizes);
    });
  }
  nb::list out;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!good[i]) {
      out.append(nb::none());
      continue;
    }
    const ColourPlanes& p = found[i];
    const int H = int(in[i].shape(0)), W = int(in[i].shape(1));
    const size_t rows = size_t(p.shape.rows(H)), cols = size_t(p.shape.cols(W));
    const auto& s = p.shape;
    out.append(nb::make_tuple(p.found.share, p.found.matrix, int(p.found.lattice.rounding),
                              int(p.found.lattice.products), nb::make_tuple(int(s.filter), s.v, s.h, s.py, s.px),
                              copied(p.luma.data(), {size_t(H), size_t(W)}), copied(p.chroma[0].data(), {rows, cols}),
                              copied(p.chroma[1].data(), {rows, cols})));
  }
  return out;
}

// Matrix number, rounding, products of the lattice that pixels lie on and the share of colours that do; (0, 0, 0, 0) if
// none.
static nb::tuple colour_lattice_of(Samples x) {
  check_pixels_shape(x);
  FoundLattice f;
  {
    nb::gil_scoped_release free_gil;
    f = find_lattice(x.data(), int(x.shape(0)), int(x.shape(1)));
  }
  return nb::make_tuple(f.matrix, int(f.lattice.rounding), int(f.lattice.products), f.share);
}

// jobs: list of (lattice fields, chroma fields, luma [H,W], cb, cr) -> pixels [H,W,3] in coding order.
static nb::list colour_synthesise_batch(nb::list jobs, int threads) {
  struct Job {
    Lattice l;
    ChromaShape s;
    Samples planes[3];
    std::unique_ptr<uint8_t[]> out;
  };
  std::vector<Job> work(jobs.size());
  for (size_t i = 0; i < work.size(); ++i) {
    nb::tuple t = nb::cast<nb::tuple>(jobs[i]);
    Job& j = work[i];
    j.l = lattice_of(nb::cast<nb::tuple>(t[0])), j.s = shape_of(nb::cast<nb::tuple>(t[1]));
    for (int c = 0; c < 3; ++c) {
      j.planes[c] = nb::cast<Samples>(t[2 + c]);
      if (j.planes[c].ndim() != 2) throw nb::value_error("planes must be [H,W]");
    }
    const size_t H = j.planes[0].shape(0), W = j.planes[0].shape(1);
    if (!H || !W || H * W > (size_t(1) << 26)) throw nb::value_error("luma plane");
    for (int c = 1; c < 3; ++c)
      if (j.planes[c].shape(0) != size_t(j.s.rows(int(H))) || j.planes[c].shape(1) != size_t(j.s.cols(int(W))))
        throw nb::value_error("chroma planes do not fit luma");
  }
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(work.size()), threads, [&](int i) {
      Job& j = work[size_t(i)];
      const int H = int(j.planes[0].shape(0)), W = int(j.planes[0].shape(1));
      j.out.reset(new uint8_t[size_t(H) * W * 3]);
      colour_synthesise(j.l, j.s, j.planes[0].data(), j.planes[1].data(), j.planes[2].data(), H, W, j.out.get());
    });
  }
  nb::list out;
  for (Job& j : work) {
    out.append(adopt(j.out.release(), {j.planes[0].shape(0), j.planes[0].shape(1), 3}));
  }
  return out;
}

static JpegFields residual_fields(const Samples& x) {
  JpegFields f;
  f.H = int(x.shape(0)), f.W = int(x.shape(1)), f.components = int(x.shape(2));
  return f;
}

// What `made` lacks of `x`, both [H,W,3] in coding order: (residual part, samples that a decoder will have, symbols
// that are not 0).
static nb::tuple residual_encode(Samples x, Samples made, int tau) {
  check_pixels_shape(x);
  if (made.ndim() != 3 || made.shape(0) != x.shape(0) || made.shape(1) != x.shape(1) || made.shape(2) != 3 || tau < 0 ||
      tau > 255)
    throw nb::value_error("residual");
  const size_t n = x.size();
  std::vector<uint8_t> bytes, out(made.data(), made.data() + n);
  size_t count = 0;
  {
    nb::gil_scoped_release free_gil;
    std::vector<int16_t> symbols(n, 0);
    const int step = 2 * tau + 1;
    for (size_t i = 0; i < n; ++i) {
      const int r = int(x.data()[i]) - out[i], a = (std::abs(r) + tau) / step;
      symbols[i] = int16_t(r < 0 ? -a : a), count += a != 0;
    }
    if (count) {
      bytes = jpeg_coder().encode_residual(residual_fields(x), made.data(), symbols.data());
      for (size_t i = 0; i < n; ++i) out[i] = jpeg_clamp8(out[i] + symbols[i] * step);
    }
  }
  return nb::make_tuple(nb::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                        copied(out.data(), {x.shape(0), x.shape(1), 3}), count);
}

// Pixels of `made` [H,W,3], coding order, and a residual part; None if it is damaged.
static nb::object residual_decode(Samples made, nb::bytes part, int tau) {
  check_pixels_shape(made);
  if (tau < 0 || tau > 255) throw nb::value_error("tau");
  const size_t n = made.size();
  std::vector<uint8_t> out(made.data(), made.data() + n);
  if (part.size()) {
    nb::gil_scoped_release free_gil;
    std::vector<int16_t> symbols(n, 0);
    const auto* lane = reinterpret_cast<const uint8_t*>(part.c_str());
    if (!jpeg_coder().decode_residual(residual_fields(made), made.data(), lane, part.size(), symbols.data()))
      out.clear();
    const int step = 2 * tau + 1;
    for (size_t i = 0; i < out.size(); ++i) out[i] = jpeg_clamp8(out[i] + symbols[i] * step);
  }
  if (out.empty()) return nb::none();
  return nb::cast(copied(out.data(), {made.shape(0), made.shape(1), 3}));
}

}  // namespace dlpr

void bind_colour(nb::module_& m) {
  using namespace dlpr;
  m.def("colour_analyse_batch", &colour_analyse_batch, "images"_a, "sizes"_a, "threads"_a);
  m.def("colour_lattice_of", &colour_lattice_of, "image"_a);
  m.def("colour_synthesise_batch", &colour_synthesise_batch, "jobs"_a, "threads"_a);
  m.def("residual_encode", &residual_encode, "planes"_a, "made"_a, "tau"_a);
  m.def("residual_decode", &residual_decode, "made"_a, "part"_a, "tau"_a);
}
