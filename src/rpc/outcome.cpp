#include <capstan/rpc/outcome.h>

#include <memory>
#include <optional>

#include <capnp/dynamic.h>

#include <capstan/base/text.h>

namespace capstan::rpc {

namespace {

// Backslashes stay as they are: sentences of our own have their paths escaped already, and must not be escaped twice.
std::string withoutControlCharacters(std::string_view text) {
  std::string clean;
  while (true) {
    size_t backslash = text.find('\\');
    clean += escapeForTerminal(text.substr(0, backslash));
    if (backslash == std::string_view::npos) return clean;
    clean += '\\';
    text.remove_prefix(backslash + 1);
  }
}

std::string_view viewOf(kj::StringPtr text) { return std::string_view(text.begin(), text.size()); }

// Answers the same error to everything. The error is shared by all capabilities that come out of one failure.
class FailedServer final : public capnp::DynamicCapability::Server {
 public:
  FailedServer(capnp::InterfaceSchema interface, std::shared_ptr<const Error> error)
      : Server(interface), error(std::move(error)) {}

  kj::Promise<void> call(capnp::InterfaceSchema::Method method,
                         capnp::CallContext<capnp::DynamicStruct, capnp::DynamicStruct> context) override {
    context.releaseParams();
    if (method.isStreaming() || method.getResultType().findFieldByName("outcome") == nullptr) {
      return exceptionFromError(*error);
    }
    fill(context.getResults(), error);
    return kj::READY_NOW;
  }

  static bool fill(capnp::DynamicStruct::Builder results, const std::shared_ptr<const Error>& error) {
    capnp::StructSchema type = results.getSchema();
    KJ_IF_MAYBE (field, type.findFieldByName("outcome")) {
      setError(results.init(*field).as<schema::Outcome>(), *error);
      for (auto each : type.getNonUnionFields()) {
        if (!each.getType().isInterface()) continue;
        results.set(each,
                    capnp::DynamicCapability::Client(kj::heap<FailedServer>(each.getType().asInterface(), error)));
      }
      return true;
    }
    return false;
  }

 private:
  std::shared_ptr<const Error> error;
};

constexpr std::string_view REMOTE_PREFIX = "remote exception: ";

// The Error in a description that exceptionFromError() has made.
std::optional<Error> decodeError(std::string_view description) {
  size_t end = description.find("] ");
  if (description.empty() || description[0] != '[' || end == std::string_view::npos) return std::nullopt;
  for (uint16_t code = 1; code <= static_cast<uint16_t>(ErrorCode::UNREACHABLE); ++code) {
    if (kebabCase(static_cast<ErrorCode>(code)) == description.substr(1, end - 1)) {
      return Error{static_cast<ErrorCode>(code), withoutControlCharacters(description.substr(end + 2)), {}};
    }
  }
  return std::nullopt;
}

}  // namespace

void setError(schema::Outcome::Builder outcome, const Error& error) { writeError(outcome.initError(), error); }

void writeError(schema::Error::Builder to, const Error& error) {
  to.setCode(static_cast<schema::Error::Code>(error.code));
  to.setMessage(error.message.c_str());
  if (!error.path.empty()) {
    to.setPath(capnp::Data::Reader(reinterpret_cast<const kj::byte*>(error.path.data()), error.path.size()));
  }
}

kj::Maybe<Error> errorIn(schema::Outcome::Reader outcome) {
  // What is not `ok` is a failure, also a kind of outcome that only a newer peer knows.
  if (outcome.isOk()) return nullptr;
  if (!outcome.isError())
    return Error{ErrorCode::IO, "the other side answered in a way that this version does not know", {}};
  return readError(outcome.getError());
}

Error readError(schema::Error::Reader from) {
  Error error;
  auto code = static_cast<uint16_t>(from.getCode());
  bool known = code != 0 && code <= static_cast<uint16_t>(ErrorCode::UNREACHABLE);
  error.code = known ? static_cast<ErrorCode>(code) : ErrorCode::IO;
  error.message = withoutControlCharacters(viewOf(from.getMessage()));
  auto path = from.getPath();
  error.path.assign(reinterpret_cast<const char*>(path.begin()), path.size());
  return error;
}

capnp::Capability::Client failedCapability(capnp::InterfaceSchema interface, const Error& error) {
  return capnp::DynamicCapability::Client(kj::heap<FailedServer>(interface, std::make_shared<const Error>(error)));
}

bool fillFailure(capnp::DynamicStruct::Builder results, const Error& error) {
  return FailedServer::fill(results, std::make_shared<const Error>(error));
}

kj::Exception exceptionFromError(const Error& error) {
  std::string description = "[" + std::string(kebabCase(error.code)) + "] " + error.message;
  return kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString(description.c_str()));
}

Error errorFromException(const kj::Exception& exception) {
  std::string_view description = viewOf(exception.getDescription());
  while (description.substr(0, REMOTE_PREFIX.size()) == REMOTE_PREFIX) description.remove_prefix(REMOTE_PREFIX.size());
  std::string reason = withoutControlCharacters(description);
  switch (exception.getType()) {
    case kj::Exception::Type::DISCONNECTED: return {ErrorCode::UNREACHABLE, "the connection was lost: " + reason, {}};
    case kj::Exception::Type::OVERLOADED: return {ErrorCode::OVERLOADED, std::move(reason), {}};
    case kj::Exception::Type::UNIMPLEMENTED:
      return {ErrorCode::UNSUPPORTED, "the other side does not know this call: " + reason, {}};
    default: break;
  }
  if (std::optional<Error> error = decodeError(description)) return *error;
  return {ErrorCode::IO, std::move(reason), {}};
}

kj::Exception clamped(kj::Exception exception) {
  switch (exception.getType()) {
    case kj::Exception::Type::FAILED:
    case kj::Exception::Type::OVERLOADED:
    case kj::Exception::Type::DISCONNECTED:
    case kj::Exception::Type::UNIMPLEMENTED: return exception;
  }
  // 0.9 has no way to change the type of an exception; "(remote)" is what it gives as file to all that came off the
  // wire.
  return kj::Exception(kj::Exception::Type::FAILED, "(remote)", 0, kj::heapString(exception.getDescription()));
}

bool isDisconnected(const kj::Exception& exception) { return exception.getType() == kj::Exception::Type::DISCONNECTED; }

}  // namespace capstan::rpc
