// Compressed streams, read in an order that the input says.
//
//     1 byte   how many reads, at most 15
//     3 each   what (0 to 3 a number, 4 to 10 weights, then bytes of a stride), and two sizes
//              (of text the model is slow: one in 16 reads some)
//     the rest the stream
#include "files/coded_stream.h"
#include "fuzz.h"

using namespace fastmnist;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Source source({data, size});
  struct Read {
    int kind;
    std::uint8_t first;
    std::uint8_t second;
  };
  std::vector<Read> reads(source.byte() % 16);
  for (Read& read : reads) {
    read.kind = source.byte() % 16;
    read.first = source.byte();
    read.second = source.byte();
  }
  auto reader = CodedReader::open(source.rest());
  if (!reader.ok()) return 0;
  for (const Read& read : reads) {
    if (read.kind < 4) {
      (*reader)->number();
    } else if (read.kind > 10) {
      constexpr int kStrides[] = {2, 3, 4, 8, 1};
      const int stride = read.second == 255 ? 9 : kStrides[read.kind - 11];  // 9 is refused
      std::vector<std::uint8_t> bytes(std::size_t{read.first});
      if (!(*reader)->check_room_for_bytes(bytes.size()).ok()) return 0;
      if (!(*reader)->bytes(bytes, stride).ok()) return 0;
    } else {
      const std::int64_t outputs = read.first % 64, inputs = read.second % 64;
      if (!(*reader)->check_room_for_weights(outputs, inputs).ok()) return 0;
      std::vector<std::int8_t> weights(static_cast<std::size_t>(outputs * inputs));
      if (!(*reader)->weights(weights.data(), outputs, inputs).ok()) return 0;
    }
  }
  (void)(*reader)->finish().ok();
  return 0;
}
