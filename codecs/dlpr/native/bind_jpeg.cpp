// Bindings of the JPEG layer, a translation unit of their own.
#include "bind_training.hpp"
#include "jpeg_synthesis.hpp"
#include <nanobind/stl/vector.h>

namespace dlpr {

// (height, width, phase y, phase x, transform, sampling v, h, box, crop, tables uint16 [components, 64])
JpegFields jpeg_fields(nb::tuple t) {
  if (t.size() != 10) throw nb::value_error("JPEG fields");
  JpegFields f;
  int* into[] = {&f.H, &f.W, &f.phase_y, &f.phase_x, &f.transform, &f.sv, &f.sh, &f.box, &f.crop};
  for (int i = 0; i < 9; ++i) *into[i] = nb::cast<int>(t[i]);
  auto tables = nb::cast<In<uint16_t>>(t[9]);
  if (tables.ndim() != 2 || tables.shape(0) > 3 || tables.shape(1) != 64) throw nb::value_error("JPEG tables");
  f.components = int(tables.shape(0));
  for (int c = 0; c < f.components; ++c) std::copy_n(tables.data() + 64 * c, 64, f.tables[c]);
  if (!f.good()) throw nb::value_error("JPEG field out of range");
  return f;
}

// The coefficients' arrays, checked to fit the fields.
struct JpegArrays {
  std::vector<In<int16_t>> keep;
  const int16_t* q[3] = {};
  JpegArrays(const JpegFields& f, nb::list arrays) {
    if (int(arrays.size()) != f.components) throw nb::value_error("JPEG components");
    for (int c = 0; c < f.components; ++c) {
      keep.push_back(nb::cast<In<int16_t>>(arrays[c]));
      const auto& a = keep.back();
      if (a.ndim() != 4 || int(a.shape(0)) != f.rows(c) || int(a.shape(1)) != f.cols(c) || a.shape(2) != 8 || a.shape(3) != 8) throw nb::value_error("JPEG coefficients");
      q[c] = a.data();
    }
  }
};

nb::object jpeg_synthesise_array(nb::tuple fields, nb::list arrays) {
  const JpegFields f = jpeg_fields(fields);
  const JpegArrays a(f, arrays);
  uint8_t* p;
  auto out = new_array<uint8_t>({size_t(f.H), size_t(f.W), size_t(f.components)}, &p);
  {
    nb::gil_scoped_release free_gil;
    const int order[3] = {0, 1, 2};
    jpeg_synthesise(f, a.q, p, order);
  }
  return nb::cast(out);
}

}  // namespace dlpr

void bind_jpeg(nb::module_& m) {
  using namespace dlpr;
  m.def("jpeg_synthesise", &jpeg_synthesise_array, "fields"_a, "coefficients"_a);
}
