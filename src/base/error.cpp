#include <capstan/base/error.h>

#include <cerrno>
#include <cstring>

#include <capstan/base/text.h>

namespace capstan {

std::string_view kebabCase(ErrorCode code) {
  switch (code) {
    case ErrorCode::UNSET: return "unset";
    case ErrorCode::NOT_FOUND: return "not-found";
    case ErrorCode::EXISTS: return "exists";
    case ErrorCode::CONFLICT: return "conflict";
    case ErrorCode::DENIED: return "denied";
    case ErrorCode::REVOKED: return "revoked";
    case ErrorCode::EXPIRED: return "expired";
    case ErrorCode::NO_SPACE: return "no-space";
    case ErrorCode::QUOTA: return "quota";
    case ErrorCode::LIMIT: return "limit";
    case ErrorCode::NOT_DIRECTORY: return "not-directory";
    case ErrorCode::IS_DIRECTORY: return "is-directory";
    case ErrorCode::NOT_EMPTY: return "not-empty";
    case ErrorCode::INVALID_PATH: return "invalid-path";
    case ErrorCode::INVALID_ARGUMENT: return "invalid-argument";
    case ErrorCode::OVERLOADED: return "overloaded";
    case ErrorCode::TOO_LARGE: return "too-large";
    case ErrorCode::CORRUPT: return "corrupt";
    case ErrorCode::CHANGED: return "changed";
    case ErrorCode::UNSUPPORTED: return "unsupported";
    case ErrorCode::IO: return "io";
    case ErrorCode::SHUTTING_DOWN: return "shutting-down";
    case ErrorCode::PROTOCOL_VERSION: return "protocol-version";
    case ErrorCode::TIMED_OUT: return "timed-out";
    case ErrorCode::CANCELLED: return "cancelled";
    case ErrorCode::UNREACHABLE: return "unreachable";
  }
  return "unknown";
}

namespace {

struct ErrnoMeaning {
  ErrorCode code;
  std::string_view reason;  // empty: what strerror says
};

ErrnoMeaning meaningOf(int number) {
  switch (number) {
    case ENOENT: return {ErrorCode::NOT_FOUND, "there is no such file or folder"};
    case EEXIST: return {ErrorCode::EXISTS, "there is something already"};
    case EACCES:
    case EPERM: return {ErrorCode::DENIED, "its permissions do not allow it"};
    case EROFS: return {ErrorCode::DENIED, "the file system is read-only"};
    case ENOSPC: return {ErrorCode::NO_SPACE, "the disk is full"};
    case EDQUOT: return {ErrorCode::QUOTA, "the disk quota is used up"};
    case EFBIG: return {ErrorCode::TOO_LARGE, "it is larger than the file system allows"};
    case EMFILE:
    case ENFILE: return {ErrorCode::OVERLOADED, "too many files are open; try again later"};
    case ENOMEM: return {ErrorCode::OVERLOADED, "memory ran out; try again later"};
    case ENOTDIR: return {ErrorCode::NOT_DIRECTORY, "a part of the path is not a folder"};
    case EISDIR: return {ErrorCode::IS_DIRECTORY, "it is a folder"};
    case ENOTEMPTY: return {ErrorCode::NOT_EMPTY, "the folder is not empty"};
    case ENAMETOOLONG: return {ErrorCode::INVALID_PATH, "a name in it is longer than the file system allows"};
    case ELOOP: return {ErrorCode::INVALID_PATH, "symlinks lead in a circle"};
    case EXDEV: return {ErrorCode::UNSUPPORTED, "it lies on another file system than the served folder"};
    case EOPNOTSUPP: return {ErrorCode::UNSUPPORTED, "the file system cannot do this"};
    case EINVAL: return {ErrorCode::INVALID_ARGUMENT, {}};
    default: return {ErrorCode::IO, {}};
  }
}

}  // namespace

Error errorFromErrno(int number, std::string_view doing, std::string_view path) {
  ErrnoMeaning meaning = meaningOf(number);
  std::string sentence(doing);
  if (!path.empty()) {
    sentence += ' ';
    sentence += escapeForTerminal(path);
  }
  sentence += ": ";
  sentence += meaning.reason.empty() ? std::string_view(strerror(number)) : meaning.reason;
  return {meaning.code, std::move(sentence), std::string(path)};
}

Error errorAt(ErrorCode code, std::string_view path, std::string_view before, std::string_view after) {
  std::string sentence(before);
  sentence += escapeForTerminal(path.empty() ? std::string_view("the folder itself") : path);
  sentence += after;
  return {code, std::move(sentence), std::string(path)};
}

}  // namespace capstan
