// Python bindings: arrays in, arrays out, no codec logic of their own.
#include "bindings/networks.hpp"
#include "bindings/training.hpp"
#include "common/crc32c.hpp"

void bind_jpeg(nb::module_& m);
void bind_jpeg_recover(nb::module_& m);
void bind_j2k(nb::module_& m);
void bind_j2k_mode(nb::module_& m);
void bind_j2k_recover(nb::module_& m);
void bind_jpeg_rewrite(nb::module_& m);
void bind_colour(nb::module_& m);
void bind_networks_steps(nb::module_& m);

NB_MODULE(_native, m) {
  m.doc() = "Native kernels of dlpr (see codecs/dlpr/native).";
  bind_training(m);
  bind_networks(m);
  bind_networks_steps(m);
  bind_jpeg(m);
  bind_jpeg_recover(m);
  bind_j2k(m);
  bind_j2k_mode(m);
  bind_j2k_recover(m);
  bind_jpeg_rewrite(m);
  bind_colour(m);
  m.def(
      "crc32c",
      [](nb::object buffer, uint32_t value) {
        Py_buffer view;
        if (PyObject_GetBuffer(buffer.ptr(), &view, PyBUF_C_CONTIGUOUS)) throw nb::python_error();
        uint32_t r;
        {
          nb::gil_scoped_release free_gil;
          r = dlpr::crc32c(static_cast<const uint8_t*>(view.buf), size_t(view.len), value);
        }
        PyBuffer_Release(&view);
        return r;
      },
      "buffer"_a, "value"_a = 0);
}
