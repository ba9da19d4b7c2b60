// Binding of the search for the JPEG behind pixels.
#include "bindings/arrays.hpp"
#include "bindings/exact_planes.hpp"
#include "common/parallel.hpp"
#include "jpeg/recover.hpp"
#include <nanobind/stl/vector.h>

namespace dlpr {

// images: list of uint8 [H,W,1] or [H,W,3] (red, green, blue); kinds: of each, 0 an image, 1 a plane of Y, 2 of Cb or
// Cr
// -> list of None or
// (wrong pixels, phase, transform, sampling, box, tables, coefficients)
nb::list jpeg_recover_batch(nb::list images, const std::vector<int>& kinds, int rounds, int threads) {
  using Image = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
  std::vector<Image> in;
  for (nb::handle i : images) {
    in.push_back(nb::cast<Image>(i));
    if (in.back().shape(2) != 1 && in.back().shape(2) != 3) throw nb::value_error("images must be [H,W,1] or [H,W,3]");
  }
  if (kinds.size() != in.size()) throw nb::value_error("a kind is needed for each image");
  std::vector<std::unique_ptr<Recovered>> found(in.size());
  {
    nb::gil_scoped_release free_gil;
    parallel_for(int(in.size()), threads, [&](int i) {
      found[i] = recover_jpeg(in[i].data(), int(in[i].shape(0)), int(in[i].shape(1)), int(in[i].shape(2)), rounds,
                              {libjpeg_colours, exact_planes}, kinds[i] == 2 && in[i].shape(2) == 1, kinds[i] > 0);
    });
  }
  nb::list out;
  for (const auto& r : found) {
    if (!r) {
      out.append(nb::none());
      continue;
    }
    const JpegFields& f = r->fields;
    nb::list tables, coefficients;
    for (int c = 0; c < f.components; ++c) {
      tables.append(copied(f.tables[c], {8, 8}));
      coefficients.append(copied(r->q[c].data(), {size_t(f.rows(c)), size_t(f.cols(c)), 8, 8}));
    }
    out.append(nb::make_tuple(r->wrong, nb::make_tuple(f.phase_y, f.phase_x), f.transform, nb::make_tuple(f.sv, f.sh),
                              f.box, tables, coefficients));
  }
  return out;
}

}  // namespace dlpr

void bind_jpeg_recover(nb::module_& m) {
  m.def("jpeg_recover_batch", &dlpr::jpeg_recover_batch, "images"_a, "kinds"_a, "rounds"_a, "threads"_a);
}
