#include <capstan/rpc/invite.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include <capstan/base/base64url.h>

namespace capstan::rpc {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string TOKEN = "0123456789abcdef0123456789abcdef";

Address tcp(const std::string& text) { return *parseAddress(text); }
Address socketAt(const std::string& path) { return {Address::Kind::UNIX, {}, 0, path}; }

const TlsIdentity& identity() {
  static const TlsIdentity made = *TlsIdentity::make();
  return made;
}

Invite full() { return {{tcp("files.example:4457"), tcp("[2001:db8::1]:99")}, TOKEN, identity().certificate}; }

std::string textOf(const Invite& invite) {
  auto text = format(invite);
  EXPECT_TRUE(text.ok()) << (text.ok() ? "" : text.error().message);
  return text.ok() ? *text : std::string();
}

std::string sentenceAbout(const std::string& text) {
  auto parsed = parseInvite(text, "friend.invite");
  if (parsed.ok()) return "it was taken";
  EXPECT_EQ(parsed.error().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(parsed.error().message, Not(HasSubstr(toBase64Url(TOKEN))));
  return parsed.error().message;
}

std::string line(const std::string& trust, const std::string& address, const std::string& token = toBase64Url(TOKEN)) {
  return "capnp://" + trust + "@" + address + "/" + token + "\n";
}

TEST(Invite, ComesBackAsItWasWritten) {
  Invite invite = full();
  invite.label = "for Ann\ncapnp://insecure@evil.example:1/";
  invite.expires = 1'800'000'000'000'000'000;
  std::string text = textOf(invite);
  auto parsed = parseInvite(text, "f");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->addresses, invite.addresses);
  EXPECT_EQ(parsed->token, TOKEN);
  EXPECT_EQ(parsed->certificate, identity().certificate);
  EXPECT_EQ(parsed->label, "") << "comments are not believed";
  EXPECT_THAT(text, HasSubstr("# label: for Ann\\ncapnp"));
  EXPECT_THAT(text, HasSubstr("# expires: 2027-01-15"));
}

TEST(Invite, LooksAsOtherImplementationsExpect) {
  EXPECT_THAT(textOf(full()), HasSubstr("\ncapnp://sha-256:" + identity().fingerprint + "@files.example:4457/" +
                                        toBase64Url(TOKEN) + "\n"));
  EXPECT_EQ(inviteLine(socketAt("/run/my sock"), identity().fingerprint, ""),
            "capnp://insecure@unix:%2frun%2fmy%20sock");
}

TEST(Invite, WithoutTlsSaysSoInEachLine) {
  Invite invite{{tcp("10.0.0.1:1"), socketAt("/run/a/b%2f\n.sock")}, TOKEN, {}};
  std::string text = textOf(invite);
  EXPECT_THAT(text, HasSubstr("capnp://insecure@10.0.0.1:1/"));
  auto parsed = parseInvite(text, "f");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->addresses, invite.addresses);
  EXPECT_EQ(parsed->certificate, "");
}

TEST(Invite, OfASocketHoldsNoCertificate) {
  Invite invite{{socketAt("/run/s")}, "", identity().certificate};
  EXPECT_THAT(textOf(invite), Not(HasSubstr("CERTIFICATE")));
  EXPECT_TRUE(parseInvite(textOf(invite), "f")->token.empty());
}

TEST(Invite, SurvivesBeingMailed) {
  std::string text = textOf(full());
  std::string mailed = "\r\n";
  for (char c : text) mailed += c == '\n' ? std::string(" \r\n") : std::string(1, c);
  auto parsed = parseInvite(mailed, "f");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->addresses.size(), 2u);
}

TEST(Invite, WhatCannotBeReadAgainIsNotWritten) {
  for (const Invite& invite : {Invite{{}, TOKEN, {}}, Invite{{tcp("a:1")}, "short", {}},
                               Invite{{socketAt("relative")}, TOKEN, {}}, Invite{{tcp("a:1")}, TOKEN, "no certificate"},
                               Invite{std::vector(17, tcp("a:1")), TOKEN, {}}, Invite{{tcp("a:0")}, TOKEN, {}}}) {
    EXPECT_FALSE(format(invite).ok());
  }
}

TEST(Invite, WhatIsNoneIsToldWithTheLineAndWithoutTheSecret) {
  std::string pin = "sha-256:" + identity().fingerprint, pem = identity().certificate;
  std::string otherPin = "sha-256:" + TlsIdentity::make()->fingerprint;
  std::string otherToken = toBase64Url(std::string(32, 'x'));
  struct Row {
    std::string text, sentence;
  };
  for (auto& row : {
           Row{"", "it is no invite"},
           {"# nothing\n\n", "it is no invite"},
           {pem, "it is no invite"},
           {"hello\n", "line 1: an invite has comments"},
           {"# a\nhttp://a:1/\n", "line 2"},
           {"capnp://a:1/" + toBase64Url(TOKEN), "line 1: there is no @"},
           {line("none", "a:1"), "neither sha-256"},
           {line("sha-256:abc", "a:1"), "the fingerprint is not one"},
           {line(pin, "a:1"), "the certificate is missing"},
           {line(pin, "unix:%2frun%2fs") + pem, "a Unix socket has no certificate"},
           {line("insecure", "a:1") + pem, "no address has its fingerprint"},
           {line(otherPin, "a:1") + pem, "not the one of the fingerprint"},
           {line(pin, "a:1") + line(otherPin, "b:1") + pem, "line 2: the fingerprint is another"},
           {line(pin, "a:1") + line("insecure", "b:1") + pem, "line 2: the fingerprint is another"},
           {line("insecure", "a:1") + line("insecure", "b:1", otherToken), "line 2: the token is another"},
           {line("insecure", "a:1", "c2hvcnQ"), "the token is not one"},
           {line("insecure", "a:1", toBase64Url(TOKEN) + "="), "the token is not one"},
           {line("insecure", "a:1", toBase64Url(TOKEN) + "/more"), "the token is not one"},
           {line("insecure", "a"), "no HOST:PORT"},
           {line("insecure", "host4457"), "no HOST:PORT"},
           {line("insecure", "a:0"), "no HOST:PORT"},
           {line("insecure", "a:99999"), "no HOST:PORT"},
           {line("insecure", "unix:relative"), "the path of the socket"},
           {line("insecure", "unix:%2frun%2"), "the path of the socket"},
           {line("insecure", "unix:%2f%00"), "no HOST:PORT"},
           {line(pin, "a:1") + pem + "capnp://insecure@evil.example:1\n", "behind the address lines"},
           {line(pin, "a:1") + identity().key + pem, "behind the address lines"},
           {line(pin, "a:1") + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "is not a certificate"},
           {std::string(100'000, '#'), "too long"},
       }) {
    EXPECT_THAT(sentenceAbout(row.text), HasSubstr(row.sentence)) << row.text;
    EXPECT_THAT(sentenceAbout(row.text), testing::StartsWith("friend.invite: "));
  }
}

TEST(Invite, AnyTextIsEitherOneOrAnError) {
  std::string good = textOf(full());
  std::mt19937 random(5);
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      size_t at = random() % text.size();
      switch (random() % 3) {
        case 0: text[at] = char(random()); break;
        case 1: text.erase(at, random() % 100); break;
        default: text.insert(at, good, random() % good.size(), random() % 100);
      }
      if (text.empty()) text = "x";
    }
    auto parsed = parseInvite(text, "f");
    if (!parsed.ok()) continue;
    auto again = format(*parsed);
    ASSERT_TRUE(again.ok()) << text;
    EXPECT_EQ(parseInvite(*again, "f")->addresses, parsed->addresses);
  }
}

}  // namespace
}  // namespace capstan::rpc
