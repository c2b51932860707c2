// The one vocabulary of failures that a user can cause, and Result, which carries either a value or such a failure.
// Not for bugs (KJ_REQUIRE, KJ_ASSERT) nor for broken connections (kj::Exception).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace capstan {

// The same codes in the same order as `Error.Code` in schema/common.capnp, where each is documented.
enum class ErrorCode : uint16_t {
  UNSET,
  NOT_FOUND,
  EXISTS,
  CONFLICT,
  DENIED,
  REVOKED,
  EXPIRED,
  NO_SPACE,
  QUOTA,
  LIMIT,
  NOT_DIRECTORY,
  IS_DIRECTORY,
  NOT_EMPTY,
  INVALID_PATH,
  INVALID_ARGUMENT,
  OVERLOADED,
  TOO_LARGE,
  CORRUPT,
  CHANGED,
  UNSUPPORTED,
  IO,
  SHUTTING_DOWN,
  PROTOCOL_VERSION,
  TIMED_OUT,
  CANCELLED,
  UNREACHABLE,
};

// The code as the command line shows it: "not-found". Unknown numbers give "unknown".
std::string_view kebabCase(ErrorCode code);

// A failure: a code to act on, and a sentence for a person. Plain data, may cross threads.
struct Error {
  ErrorCode code = ErrorCode::UNSET;
  std::string message;  // one sentence that names the thing and the way out; without control characters
  std::string path;     // raw bytes of the path that it is about; empty where there is none
};

// Either a T or an Error. Like std::expected, which g++ 12 lacks.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Precondition: ok(); throws std::bad_variant_access otherwise.
  T& value() & { return std::get<0>(state); }
  const T& value() const& { return std::get<0>(state); }
  T&& value() && { return std::get<0>(std::move(state)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // Precondition: !ok().
  Error& error() & { return std::get<1>(state); }
  const Error& error() const& { return std::get<1>(state); }
  Error&& error() && { return std::get<1>(std::move(state)); }

 private:
  std::variant<T, Error> state;
};

struct Unit {};
using Status = Result<Unit>;  // of an operation that answers nothing but whether it worked

inline Status okStatus() { return Unit{}; }

// Turns an errno into an Error whose sentence is "DOING PATH: reason", for example
// errorFromErrno(ENOSPC, "cannot store", "a/b") -> noSpace, "cannot store a/b: the disk is full".
// `doing` is a phrase without a path, `path` raw bytes (escaped for the sentence; may be empty).
Error errorFromErrno(int number, std::string_view doing, std::string_view path = {});

// An Error whose sentence is made of `before`, the escaped path, and `after`.
Error errorAt(ErrorCode code, std::string_view path, std::string_view before, std::string_view after = {});

}  // namespace capstan
