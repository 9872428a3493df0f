# A web server in a language without a buildpack: the run image has perl, the Procfile says the rest.
use strict;
use warnings;
use IO::Socket::INET;

my $port = $ARGV[0] || 8080;
my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "listen: $!";
$SIG{TERM} = sub { exit 0 };
while (my $client = $listener->accept) {
    while (my $line = <$client>) { last if $line =~ /^\r?$/ }
    my $body = "Hello from perl.\n";
    print $client "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    close $client;
}
