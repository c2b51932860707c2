#include <capstan/client/compute-input.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include <capnp/orphan.h>

#include <capstan/client/compute-wire.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::client {

namespace {

static_assert(std::endian::native == std::endian::little, "numbers are streamed as they are in memory");

constexpr size_t CHUNK = 256 << 10;
constexpr uint64_t TEXT_OVERHEAD = 12;  // of each text in a message: its pointer, and on average half a word of padding

uint64_t messageBytes(const Elements& elements) {
  if (auto texts = std::get_if<std::vector<std::string>>(&elements)) {
    uint64_t bytes = 0;
    for (auto& text : *texts) bytes += text.size() + TEXT_OVERHEAD;
    return bytes;
  }
  return std::visit([](auto& list) { return uint64_t(list.size()); }, elements) * BINARY_ELEMENT_BYTES;
}

// A literal as a stream: numbers in binary, texts as lines.
class ElementsProducer final : public ByteProducer {
 public:
  explicit ElementsProducer(const Elements& elements) : elements(elements) {}

  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override {
    if (auto texts = std::get_if<std::vector<std::string>>(&elements)) return readTexts(*texts, buffer, size);
    if (auto ints = std::get_if<std::vector<int64_t>>(&elements))
      return readNumbers(ints->data(), ints->size(), buffer, size);
    auto& floats = std::get<std::vector<double>>(elements);
    return readNumbers(floats.data(), floats.size(), buffer, size);
  }

 private:
  const Elements& elements;
  size_t next = 0;      // the text that is being read
  uint64_t offset = 0;  // in it, or in the numbers' bytes

  Result<size_t> readNumbers(const void* numbers, size_t count, char* buffer, size_t size) {
    size_t part = std::min<uint64_t>(size, count * BINARY_ELEMENT_BYTES - offset);
    if (part != 0) memcpy(buffer, static_cast<const char*>(numbers) + offset, part);
    offset += part;
    return part;
  }

  Result<size_t> readTexts(const std::vector<std::string>& texts, char* buffer, size_t size) {
    size_t filled = 0;
    while (filled < size && next < texts.size()) {
      const std::string& text = texts[next];
      size_t part = std::min<size_t>(size - filled, text.size() - offset);
      memcpy(buffer + filled, text.data() + offset, part);
      filled += part;
      offset += part;
      if (filled == size) break;
      buffer[filled++] = '\n';
      offset = 0;
      ++next;
    }
    return filled;
  }
};

// One stream into a Value.
class Collecting {
 public:
  Collecting(Connection& connection, ByteProducer& source, ElementType type, Encoding encoding) : source(source) {
    auto request = connection.compute().collectRequest();
    request.setType(schema::ElementType(type));
    request.setEncoding(schema::Encoding(encoding));
    auto collected = request.send();
    sink = collected.getSink();
    value = collected.getValue();
  }

  // Waits for the end of the stream too, which costs a round trip: the value would not tell as well why it was refused.
  kj::Promise<Result<SentInput>> run() {
    return sendNext()
        .then([this](Status&& sent) -> kj::Promise<Status> {
          if (!sent.ok()) return kj::mv(sent);
          return end();
        })
        .then([this](Status&& ended) -> Result<SentInput> {
          if (!ended.ok()) return std::move(ended).error();
          SentInput input;
          input.value = kj::mv(value);
          return input;
        });
  }

 private:
  using Chunk = capnp::StreamingRequest<schema::ByteSink::WriteParams>;

  ByteProducer& source;
  kj::Maybe<schema::ByteSink::Client> sink;
  kj::Maybe<schema::Value::Client> value;

  kj::Promise<Status> sendNext() {
    auto request = KJ_ASSERT_NONNULL(sink).writeRequest(capnp::MessageSize{CHUNK / sizeof(capnp::word) + 1024, 4});
    auto chunk = kj::heap<Chunk>(kj::mv(request));
    auto data = capnp::Orphanage::getForMessageContaining(schema::ByteSink::WriteParams::Builder(*chunk))
                    .newOrphan<capnp::Data>(CHUNK);
    char* buffer = reinterpret_cast<char*>(data.get().begin());
    return fill(buffer, 0).then(
        [this, chunk = kj::mv(chunk), data = kj::mv(data)](Result<size_t>&& got) mutable -> kj::Promise<Status> {
          if (!got.ok()) return Status(std::move(got).error());
          if (*got == 0) return okStatus();
          data.truncate(*got);
          chunk->adoptData(kj::mv(data));
          return chunk->send().then([this]() { return sendNext(); },
                                    [this](kj::Exception&& exception) { return whyRefused(kj::mv(exception)); });
        });
  }

  // Until the buffer is full or the source at its end.
  kj::Promise<Result<size_t>> fill(char* buffer, size_t have) {
    if (have == CHUNK) return Result<size_t>(have);
    return source.read(buffer + have, CHUNK - have)
        .then([this, buffer, have](Result<size_t>&& got) -> kj::Promise<Result<size_t>> {
          if (!got.ok()) return kj::mv(got);
          if (*got == 0) return Result<size_t>(have);
          return fill(buffer, have + *got);
        });
  }

  kj::Promise<Status> end() {
    return KJ_ASSERT_NONNULL(sink).endRequest().send().then(
        [](capnp::Response<schema::ByteSink::EndResults>&& response) -> kj::Promise<Status> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return Status(kj::mv(*error));
          }
          return okStatus();
        },
        [](kj::Exception&& exception) -> kj::Promise<Status> {
          if (rpc::isDisconnected(exception)) return kj::mv(exception);
          return Status(rpc::errorFromException(exception));
        });
  }

  // The exception of a piece, or what the end of the stream says where that tells more.
  kj::Promise<Status> whyRefused(kj::Exception exception) {
    if (rpc::isDisconnected(exception)) return kj::mv(exception);
    Error told = rpc::errorFromException(exception);
    if (told.code != ErrorCode::IO) return Status(kj::mv(told));
    return end().then([told](Status&& ended) { return ended.ok() ? Status(told) : kj::mv(ended); });
  }
};

kj::Promise<Result<SentInput>> collect(Connection& connection, ByteProducer& source, ElementType type,
                                       Encoding encoding) {
  auto collecting = kj::heap<Collecting>(connection, source, type, encoding);
  auto promise = collecting->run();
  return promise.attach(kj::mv(collecting));
}

kj::Promise<Result<SentInput>> sendElements(Connection& connection, const Elements& elements) {
  if (auto texts = std::get_if<std::vector<std::string>>(&elements)) {
    for (auto& text : *texts) {
      if (text.find('\n') != std::string::npos) {
        Error error = errorAt(ErrorCode::INVALID_ARGUMENT, text, "a text to compute with holds a newline: ");
        error.path.clear();
        return Result<SentInput>(kj::mv(error));
      }
    }
  }
  if (messageBytes(elements) > LARGEST_LITERAL) {
    ElementType type = typeOf(elements);
    auto producer = kj::heap<ElementsProducer>(elements);
    auto promise = collect(connection, *producer, type, type == ElementType::TEXT ? Encoding::LINES : Encoding::BINARY);
    return promise.attach(kj::mv(producer));
  }
  SentInput input;
  input.elements = &elements;
  return Result<SentInput>(kj::mv(input));
}

}  // namespace

void SentInput::fill(schema::Operand::Builder to) {
  KJ_IF_MAYBE (v, value) {
    to.setValue(*v);
    return;
  }
  KJ_IF_MAYBE (f, file) {
    auto stored = to.initFile();
    stored.setFile(*f);
    stored.setType(schema::ElementType(type));
    stored.setEncoding(schema::Encoding(encoding));
    return;
  }
  writeElements(to.initElements(), *elements);
}

kj::Promise<Result<SentInput>> sendInput(Connection& connection, const ComputeInput& input) {
  if (auto elements = std::get_if<Elements>(&input)) return sendElements(connection, *elements);
  if (auto streamed = std::get_if<StreamedInput>(&input))
    return collect(connection, *streamed->source, streamed->type, streamed->encoding);
  auto& remote = std::get<RemoteInput>(input);
  auto open = connection.fileStore().openRequest();
  open.setPath(rpc::asData(remote.path));
  SentInput sent;
  sent.file = open.send().getFile();
  sent.type = remote.type;
  sent.encoding = remote.encoding;
  return Result<SentInput>(kj::mv(sent));
}

}  // namespace capstan::client
