// Classes of MNIST's test images, one a line: classify FILE MODEL t10k-images-idx3-ubyte
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

#include "fastmnist/model.hpp"

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: classify FILE MODEL IMAGES\n"), 2;
  const fastmnist::Model model(argv[1], argv[2]);
  std::ifstream file(argv[3], std::ios::binary);
  file.seekg(16);  // an IDX file's header
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  const std::size_t rows = bytes.size() / model.input_size();
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(bytes.data());
  for (const std::int64_t digit : model.classify(pixels, rows)) std::printf("%d\n", int(digit));
}
