#include <capstan/server/compute/operand.h>

#include <sys/stat.h>

#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/collect.h>

namespace capstan::server::compute {

namespace {

using InputResult = Result<Input>;

InputResult asInput(const ContentResult& content) {
  if (!content.ok()) return content.error();
  return Input(*content);
}

Error invalid(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

// What a value of another server is, so that it is taken as what it is.
kj::Promise<InputResult> readRemote(ComputeScope& scope, schema::Value::Client value) {
  return value.describeRequest().send().then([&scope, value](auto&& response) mutable -> kj::Promise<InputResult> {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return InputResult(kj::mv(*error));
    auto info = response.getInfo();
    auto type = static_cast<ElementType>(info.getType());
    auto encoding = type == ElementType::TEXT ? Encoding::LINES : Encoding::BINARY;
    auto collecting = collect(scope, type, encoding);
    auto request = value.streamRequest();
    request.setSink(kj::mv(collecting.sink));
    request.setEncoding(static_cast<schema::Encoding>(encoding));
    return request.send().then(
        [content = kj::mv(collecting.content)](auto&& response) mutable -> kj::Promise<InputResult> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return InputResult(kj::mv(*error));
          return content.then([](ContentResult content) { return asInput(content); });
        });
  });
}

kj::Promise<InputResult> resolveValue(ComputeScope& scope, schema::Value::Client value, uint64_t dependent) {
  return localValue(scope, value)
      .then([&scope, value, dependent](kj::Maybe<kj::Own<ValueNode>> node) mutable -> kj::Promise<InputResult> {
        KJ_IF_MAYBE (found, node) {
          if ((*found)->number() >= dependent) {
            return InputResult(invalid("an operand is a value that was made later; it could depend on itself"));
          }
          auto& waited = **found;
          return waited.whenReady().then([node = kj::mv(*found)]() { return asInput(node->get()); });
        }
        return readRemote(scope, kj::mv(value));
      });
}

kj::Promise<InputResult> readRemoteFile(ComputeScope& scope, schema::File::Client file, ElementType type,
                                        Encoding encoding) {
  auto collecting = collect(scope, type, encoding);
  auto request = file.streamRequest();
  request.setSink(kj::mv(collecting.sink));
  request.setCount(UINT64_MAX);
  return request.send().then(
      [content = kj::mv(collecting.content)](auto&& response) mutable -> kj::Promise<InputResult> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return InputResult(kj::mv(*error));
        return content.then([](ContentResult content) { return asInput(content); });
      });
}

// Looks at the grant after each block: none that is given out was read after its end.
class GrantedSource final : public Source {
 public:
  GrantedSource(std::unique_ptr<Source> innerParam, std::shared_ptr<const Grant> grant)
      : inner(std::move(innerParam)), grant(std::move(grant)) {
    type = inner->type;
    encoding = inner->encoding;
    name = inner->name;
  }

  Result<size_t> read(char* to, size_t size) override {
    auto got = inner->read(to, size);
    if (auto ended = grant->ended()) return *ended;
    return got;
  }
  uint64_t expectedSize() const override { return inner->expectedSize(); }

 private:
  const std::unique_ptr<Source> inner;
  const std::shared_ptr<const Grant> grant;
};

kj::Promise<InputResult> resolveFile(ComputeScope& scope, schema::StoredElements::Reader stored) {
  auto type = static_cast<ElementType>(stored.getType());
  auto encoding = static_cast<Encoding>(stored.getEncoding());
  if (encoding == Encoding::UNSET) encoding = Encoding::LINES;
  if (type != ElementType::INT && type != ElementType::FLOAT && type != ElementType::TEXT) {
    return InputResult(invalid("say what the file's elements are: int, float or text"));
  }
  if (encoding != Encoding::LINES && encoding != Encoding::BINARY) {
    return InputResult(invalid("there is no such encoding; use lines or binary"));
  }
  if (encoding == Encoding::BINARY && type == ElementType::TEXT) {
    return InputResult(invalid("text has no binary encoding; use lines"));
  }
  auto file = stored.getFile();
  return scope.context.folder.localFile(*scope.connection, file)
      .then([&scope, file, type, encoding](kj::Maybe<files::HeldFile> held) mutable -> kj::Promise<InputResult> {
        KJ_IF_MAYBE (found, held) {
          return InputResult(Input(FileInput{std::move(*found), type, encoding}));
        }
        // Not of this server; or none at all, because opening it failed: then this answers why.
        return readRemoteFile(scope, kj::mv(file), type, encoding);
      });
}

}  // namespace

std::optional<Number> literalNumber(schema::Operand::Reader operand) {
  if (operand.isInt()) return operand.getInt();
  if (operand.isFloat()) return operand.getFloat();
  return std::nullopt;
}

size_t literalBytes(schema::Operand::Reader operand) {
  return operand.isElements() ? sizeOfLiteral(operand.getElements()) : 0;
}

kj::Promise<InputResult> resolveInput(ComputeScope& scope, schema::Operand::Reader operand, uint64_t dependent) {
  if (auto number = literalNumber(operand)) return InputResult(Input(Content::ofNumber(*number)));
  switch (operand.which()) {
    case schema::Operand::ELEMENTS: {
      auto literal = readLiteral(operand.getElements());
      if (!literal.ok()) return InputResult(literal.error());
      return InputResult(Input(std::move(*literal)));
    }
    case schema::Operand::VALUE:
      if (!operand.hasValue()) break;
      return resolveValue(scope, operand.getValue(), dependent);
    case schema::Operand::FILE:
      if (!operand.getFile().hasFile()) break;
      return resolveFile(scope, operand.getFile());
    default: break;
  }
  return InputResult(invalid("the operand is empty, or of a kind that the server does not know"));
}

kj::Promise<Result<Number>> resolveNumber(ComputeScope& scope, schema::Operand::Reader operand, uint64_t dependent) {
  if (auto number = literalNumber(operand)) return Result<Number>(*number);
  if (!operand.isValue()) {
    return Result<Number>(invalid("add takes single numbers; for a list or a file take the sum of it (reduce)"));
  }
  return resolveInput(scope, operand, dependent).then([&scope](InputResult input) -> kj::Promise<Result<Number>> {
    if (!input.ok()) return Result<Number>(input.error());
    auto content = std::get<std::shared_ptr<const Content>>(*input);
    if (content->inMemory()) return content->number();
    return scope.context.threads.quick.run([content]() { return content->number(); });
  });
}

uint64_t sizeOf(const Input& input) {
  if (auto* content = std::get_if<std::shared_ptr<const Content>>(&input)) return (*content)->info().bytes;
  if (auto* literal = std::get_if<LiteralElements>(&input)) return literal->bytes.size();
  struct stat status;
  return fstat(std::get<FileInput>(input).file.fd, &status) == 0 ? uint64_t(status.st_size) : 0;
}

ElementType typeOf(const Input& input) {
  if (auto* content = std::get_if<std::shared_ptr<const Content>>(&input)) return (*content)->info().type;
  if (auto* literal = std::get_if<LiteralElements>(&input)) return literal->type;
  return std::get<FileInput>(input).type;
}

Encoding encodingOf(const Input& input) {
  if (auto* content = std::get_if<std::shared_ptr<const Content>>(&input)) return (*content)->info().encoding;
  if (auto* literal = std::get_if<LiteralElements>(&input)) return literal->encoding;
  return std::get<FileInput>(input).encoding;
}

Result<std::unique_ptr<Source>> openInput(const Input& input, const Spool& spool,
                                          std::shared_ptr<SpoolAccount> account) {
  if (auto* content = std::get_if<std::shared_ptr<const Content>>(&input)) return sourceOfContent(*content);
  if (auto* literal = std::get_if<LiteralElements>(&input)) {
    ContentWriter writer(literal->type, literal->encoding, spool, std::move(account));
    auto status = writer.append(literal->bytes);
    if (!status.ok()) return status.error();
    auto content = writer.finish();
    if (!content.ok()) return content.error();
    return sourceOfContent(std::move(*content));
  }
  auto& file = std::get<FileInput>(input);
  auto& grant = file.file.grant;
  if (grant != nullptr) {
    if (auto ended = grant->ended()) return *ended;
  }
  auto source = sourceOfFile(file.file.fd, file.file.owner, file.file.path, file.type, file.encoding);
  if (grant == nullptr) return source;
  return std::unique_ptr<Source>(std::make_unique<GrantedSource>(std::move(source), grant));
}

}  // namespace capstan::server::compute
