#include <capstan/rpc/entry-wire.h>

namespace capstan::rpc {

namespace {

constexpr uint32_t MAX_MODE = 07777;
constexpr size_t XXH3_BYTES = 16;
constexpr size_t SHA256_BYTES = 32;

std::string asString(capnp::Data::Reader data) { return std::string(asView(data)); }

Error invalid(std::string message) { return {ErrorCode::INVALID_ARGUMENT, std::move(message), {}}; }

}  // namespace

void write(schema::Entry::Builder to, const Entry& entry) {
  to.setPath(asData(entry.path));
  to.setType(static_cast<schema::Entry::Type>(entry.type));
  to.setSize(entry.size);
  to.setMtime(entry.mtime);
  to.setMode(entry.mode);
  to.setVersion(asData(entry.version));
  to.setCached(entry.cached);
  to.setIdentity(entry.identity);
  if (!entry.target.empty()) to.setTarget(asData(entry.target));
}

Entry read(schema::Entry::Reader from) {
  Entry entry;
  entry.path = asString(from.getPath());
  // A type that a newer peer knows and we do not is, to us, neither file nor folder nor symlink.
  auto type = static_cast<uint16_t>(from.getType());
  entry.type = type <= static_cast<uint16_t>(EntryType::OTHER) ? static_cast<EntryType>(type) : EntryType::OTHER;
  entry.size = from.getSize();
  entry.mtime = from.getMtime();
  entry.mode = from.getMode() & MAX_MODE;
  entry.version = asString(from.getVersion());
  entry.cached = from.getCached();
  entry.identity = from.getIdentity();
  entry.target = asString(from.getTarget());
  return entry;
}

void write(schema::Expectation::Builder to, const Expectation& expectation) {
  switch (expectation.kind) {
    case Expectation::Kind::ANY: to.setAny(); break;
    case Expectation::Kind::ABSENT: to.setAbsent(); break;
    case Expectation::Kind::VERSION: to.setVersion(asData(expectation.version)); break;
    case Expectation::Kind::IDENTITY: to.setIdentity(expectation.identity); break;
  }
}

Expectation read(schema::Expectation::Reader from) {
  switch (from.which()) {
    case schema::Expectation::ANY: return {Expectation::Kind::ANY, {}};
    case schema::Expectation::ABSENT: return {Expectation::Kind::ABSENT, {}};
    case schema::Expectation::VERSION: return {Expectation::Kind::VERSION, asString(from.getVersion())};
    case schema::Expectation::IDENTITY: return {Expectation::Kind::IDENTITY, {}, from.getIdentity()};
  }
  // A kind that only a newer peer knows must not be taken for "any": the empty version is nothing's, so this never
  // holds.
  return {Expectation::Kind::VERSION, {}};
}

void write(schema::Attributes::Builder to, const Attributes& attributes) {
  if (attributes.mode) to.getMode().setSet(*attributes.mode);
  if (attributes.mtime) to.getMtime().setSet(*attributes.mtime);
}

Result<Attributes> read(schema::Attributes::Reader from) {
  Attributes attributes;
  switch (from.getMode().which()) {
    case schema::Attributes::Mode::KEEP: break;
    case schema::Attributes::Mode::SET: attributes.mode = from.getMode().getSet(); break;
    default: return invalid("this server does not know that way to set a mode; use a server of the client's version");
  }
  if (attributes.mode.value_or(0) > MAX_MODE) {
    return invalid("the mode " + std::to_string(*attributes.mode) + " has more than the permission bits 0 to 07777");
  }
  switch (from.getMtime().which()) {
    case schema::Attributes::Mtime::KEEP: break;
    case schema::Attributes::Mtime::SET: attributes.mtime = from.getMtime().getSet(); break;
    default: return invalid("this server does not know that way to set a time; use a server of the client's version");
  }
  return attributes;
}

void write(schema::ContentCheck::Builder to, const ContentCheck& check) {
  if (check.size) to.getSize().setKnown(*check.size);
  if (check.algorithm != DigestAlgorithm::UNSET) {
    auto digest = to.initDigest();
    digest.setAlgorithm(static_cast<schema::DigestAlgorithm>(check.algorithm));
    digest.setValue(asData(check.digest));
  }
}

Result<ContentCheck> read(schema::ContentCheck::Reader from) {
  ContentCheck check;
  switch (from.getSize().which()) {
    case schema::ContentCheck::Size::UNKNOWN: break;
    case schema::ContentCheck::Size::KNOWN: check.size = from.getSize().getKnown(); break;
    default: return invalid("this server does not know that check of a size; use a server of the client's version");
  }
  auto digest = from.getDigest();
  size_t expected = 0;
  switch (digest.getAlgorithm()) {
    case schema::DigestAlgorithm::UNSET: return check;
    case schema::DigestAlgorithm::XXH3: expected = XXH3_BYTES; break;
    case schema::DigestAlgorithm::SHA256: expected = SHA256_BYTES; break;
    default: return invalid("the digest is of an algorithm that this server does not know; use xxh3 or sha256");
  }
  check.algorithm = static_cast<DigestAlgorithm>(digest.getAlgorithm());
  check.digest = asString(digest.getValue());
  if (check.digest.size() != expected) {
    return invalid("the digest has " + std::to_string(check.digest.size()) + " bytes, and one by " +
                   std::string(nameOf(check.algorithm)) + " has " + std::to_string(expected));
  }
  return check;
}

}  // namespace capstan::rpc
