// Python bindings: arrays in, arrays out, no codec logic of their own.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include "bindings/networks.hpp"

void bind_jpeg(nb::module_& m);
void bind_jpeg_recover(nb::module_& m);
void bind_colour(nb::module_& m);

NB_MODULE(_native, m) {
  m.doc() = "Native kernels of dlpr (see codecs/dlpr/native).";
  bind_training(m);
  bind_codec(m);
  bind_jpeg(m);
  bind_jpeg_recover(m);
  bind_colour(m);
}
