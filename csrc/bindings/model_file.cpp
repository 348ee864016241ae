#include "bindings/model_file.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/errors.h"
#include "files/model_file.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;

class File {
 public:
  explicit File(const std::string& path) {
    const py::gil_scoped_release unlocked;
    file_ = unwrap(ModelFile::open(path));
  }

  py::bytes content() const { return {file_->content().data(), file_->content().size()}; }
  std::vector<std::string_view> keys(const std::string& model) const {
    return file_->keys(unwrap(file_->find(model)));
  }

  py::array array(const std::string& model, const std::string& key) const {
    const std::size_t which = unwrap(file_->find(model));
    fastmnist::Array read;
    {
      const py::gil_scoped_release unlocked;
      read = unwrap(file_->array(which, key));
    }
    const py::dtype dtype{std::string(about(read.dtype()).numpy)};
    if (!read.is_owned()) {  // of a compressed file, which keeps it
      py::array copy(dtype, read.shape());
      if (!read.bytes().empty())
        std::memcpy(copy.mutable_data(), read.bytes().data(), read.bytes().size());
      return copy;
    }
    auto owner = std::make_unique<fastmnist::Array>(std::move(read));
    const fastmnist::Array& kept = *owner;
    const py::capsule memory(owner.release(),
                             [](void* array) { delete static_cast<fastmnist::Array*>(array); });
    return {dtype, kept.shape(), kept.bytes().data(), memory};
  }

 private:
  std::unique_ptr<ModelFile> file_;
};

}  // namespace

void register_model_file(py::module_& module) {
  py::class_<File>(module, "ModelFile", "What fm.save wrote: a description, and arrays by name.")
      .def(py::init<std::string>(), py::arg("path"))
      .def("content", &File::content)
      .def("keys", &File::keys, py::arg("model"))
      .def("array", &File::array, py::arg("model"), py::arg("key"));
}

}  // namespace fastmnist::bindings
