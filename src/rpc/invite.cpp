#include <capstan/rpc/invite.h>

#include <algorithm>

#include <capstan/base/base64url.h>
#include <capstan/base/digest.h>
#include <capstan/base/text.h>

namespace capstan::rpc {

namespace {

constexpr std::string_view SCHEME = "capnp://";
constexpr std::string_view PINNED = "sha-256:";
constexpr std::string_view INSECURE = "insecure";
constexpr std::string_view UNIX_PREFIX = "unix:";
constexpr std::string_view PEM_BEGIN = "-----BEGIN ";
constexpr size_t FINGERPRINT_CHARACTERS = 43;

bool isPlainCharacter(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

std::string percentEncoded(std::string_view bytes) {
  std::string text;
  for (char c : bytes) {
    if (isPlainCharacter(c)) {
      text += c;
    } else {
      text += "%" + toHex({&c, 1});
    }
  }
  return text;
}

std::optional<std::string> percentDecoded(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (isPlainCharacter(text[i])) {
      bytes += text[i];
      continue;
    }
    auto byte = text[i] == '%' && i + 2 < text.size() ? fromHex(text.substr(i + 1, 2)) : std::nullopt;
    if (!byte) return std::nullopt;
    bytes += *byte;
    i += 2;
  }
  return bytes;
}

std::string_view withoutSpaceBehind(std::string_view line) {
  size_t end = line.find_last_not_of(" \t\r");
  return line.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

class Parser {
 public:
  explicit Parser(std::string_view fileName) : fileName(fileName) {}

  Result<Invite> parse(std::string_view text) {
    if (text.size() > MAX_INVITE_BYTES) return wrong("it is too long to be an invite");
    while (!text.empty()) {
      ++lineNumber;
      size_t end = text.find('\n');
      std::string_view line = withoutSpaceBehind(text.substr(0, end));
      if (line.starts_with(PEM_BEGIN)) return withCertificate(text);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (line.empty() || line.front() == '#') continue;
      if (Status status = takeAddress(line); !status.ok()) return status.error();
    }
    if (invite.addresses.empty()) return wrong("it is no invite: there is no line that begins with capnp://");
    if (!fingerprint.empty()) return wrong("the certificate is missing");
    return std::move(invite);
  }

 private:
  std::string_view fileName;
  unsigned lineNumber = 0;
  Invite invite;
  std::string fingerprint;
  bool anyTcp = false;

  Error wrong(std::string_view what) {
    std::string sentence = escapeForTerminal(fileName);
    sentence.append(": ").append(what);
    return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}};
  }
  Error wrongHere(std::string_view what) {
    return wrong("line " + std::to_string(lineNumber) + ": " + std::string(what));
  }

  Status takeAddress(std::string_view line) {
    if (!line.starts_with(SCHEME)) {
      return wrongHere("an invite has comments (#), lines that begin with capnp://, and a certificate");
    }
    if (invite.addresses.size() == MAX_INVITE_ADDRESSES) return wrongHere("there are too many addresses");
    line.remove_prefix(SCHEME.size());
    size_t at = line.find('@');
    if (at == std::string_view::npos) return wrongHere("there is no @ before the address");
    std::string_view trust = line.substr(0, at), rest = line.substr(at + 1);
    size_t slash = rest.find('/');
    Status token = takeToken(slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1));
    if (!token.ok()) return token;
    auto address = addressOf(rest.substr(0, slash));
    if (!address.ok()) return address.error();
    Status trusted = takeTrust(trust, address->kind);
    if (!trusted.ok()) return trusted;
    invite.addresses.push_back(std::move(*address));
    return okStatus();
  }

  Result<Address> addressOf(std::string_view text) {
    std::string written(text);
    if (text.starts_with(UNIX_PREFIX)) {
      auto path = percentDecoded(text.substr(UNIX_PREFIX.size()));
      if (!path || !path->starts_with('/')) return wrongHere("the path of the socket is not one");
      written = std::string(UNIX_PREFIX) + *path;
    }
    auto address = parseAddress(written);
    if (!address.ok() || (address->kind == Address::Kind::TCP &&
                          (address->port == 0 || !text.ends_with(":" + std::to_string(address->port))))) {
      return wrongHere("there is no HOST:PORT behind the @");
    }
    return address;
  }

  Status takeToken(std::string_view text) {
    auto token = fromBase64Url(text);
    if (!token || (!token->empty() && token->size() != TOKEN_BYTES)) return wrongHere("the token is not one");
    if (invite.addresses.empty()) invite.token = *token;
    if (invite.token != *token) return wrongHere("the token is another one than in the lines before");
    return okStatus();
  }

  // All TCP addresses are of one server, which has one certificate.
  Status takeTrust(std::string_view text, Address::Kind kind) {
    std::string found;
    if (text.starts_with(PINNED)) {
      found = text.substr(PINNED.size());
      auto digest = fromBase64Url(found);
      if (!digest || found.size() != FINGERPRINT_CHARACTERS) return wrongHere("the fingerprint is not one");
      if (kind == Address::Kind::UNIX) return wrongHere("a Unix socket has no certificate");
    } else if (text != INSECURE) {
      return wrongHere("neither sha-256:FINGERPRINT nor insecure is before the @");
    }
    if (kind == Address::Kind::UNIX) return okStatus();
    if (anyTcp && found != fingerprint) return wrongHere("the fingerprint is another one than in the lines before");
    anyTcp = true;
    fingerprint = std::move(found);
    return okStatus();
  }

  Result<Invite> withCertificate(std::string_view pem) {
    if (invite.addresses.empty()) return wrong("it is no invite: there is no line that begins with capnp://");
    if (fingerprint.empty()) return wrongHere("there is a certificate, but no address has its fingerprint");
    std::string certificates;
    for (const std::string& each : certificatesIn(pem)) certificates += each;
    auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    std::string given(pem), kept(certificates);
    std::erase_if(given, blank);
    std::erase_if(kept, blank);
    if (given != kept) return wrongHere("there is something behind the address lines that is not a certificate");
    auto facts = factsOf(certificates, "the certificate");
    if (!facts.ok()) return wrongHere(facts.error().message);
    if (facts->fingerprint != fingerprint) {
      return wrongHere(
          "the certificate is not the one of the fingerprint: the file was damaged or put together wrongly");
    }
    invite.certificate = std::move(certificates);
    return std::move(invite);
  }
};

}  // namespace

std::string inviteLine(const Address& address, std::string_view fingerprint, std::string_view token) {
  bool isUnix = address.kind == Address::Kind::UNIX;
  std::string line(SCHEME);
  if (isUnix || fingerprint.empty()) {
    line += INSECURE;
  } else {
    line.append(PINNED).append(fingerprint);
  }
  line += '@';
  line += isUnix ? std::string(UNIX_PREFIX) + percentEncoded(address.path) : address.toString();
  if (!token.empty()) line += '/' + toBase64Url(token);
  return line;
}

Result<std::string> format(const Invite& invite) {
  std::string fingerprint;
  if (!invite.certificate.empty()) {
    auto found = fingerprintOf(invite.certificate);
    if (!found.ok()) return found.error();
    fingerprint = std::move(*found);
  }
  std::string text = "# An invite to a Capstan server. Whoever has this file has what it gives: keep it to yourself.\n";
  if (!invite.label.empty()) text += "# label: " + escapeForTerminal(invite.label) + "\n";
  if (invite.expires) text += "# expires: " + formatTime(*invite.expires) + "\n";
  text += "# Use it as in: capstan --server @THIS-FILE ls\n";
  bool anyTcp = false;
  for (const Address& address : invite.addresses) {
    text += inviteLine(address, fingerprint, invite.token) + "\n";
    anyTcp = anyTcp || address.kind == Address::Kind::TCP;
  }
  // Of what is left when there are sockets only, nobody would make use.
  if (anyTcp) {
    for (const std::string& each : certificatesIn(invite.certificate)) text += each;
  }
  auto checked = parseInvite(text, "the invite");
  if (!checked.ok()) return checked.error();
  return text;
}

Result<Invite> parseInvite(std::string_view text, std::string_view fileName) { return Parser(fileName).parse(text); }

}  // namespace capstan::rpc
