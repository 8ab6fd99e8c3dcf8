import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;

/**
 * Orders in a database and messages about them that cannot disagree, whatever dies when: what
 * payment.py does, with an H2 database.
 *
 * <p>Payment API DATABASE COUNT [CRASH-PROBABILITY]
 */
public final class Payment {
    private static final String GROUP = "java-payments";
    private static final String TOPIC = "java-orders";
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Random RANDOM = new Random();

    private final HttpClient http = HttpClient.newHttpClient();
    private final String api;
    private final String database;
    private final double crashProbability;

    private Payment(String api, String database, double crashProbability) {
        this.api = api;
        this.database = database;
        this.crashProbability = crashProbability;
    }

    public static void main(String[] arguments) throws Exception {
        double crash = arguments.length > 3 ? Double.parseDouble(arguments[3]) : 0;
        Payment payment = new Payment(arguments[0], "jdbc:h2:file:" + arguments[1], crash);
        int count = Integer.parseInt(arguments[2]);
        payment.createTable();
        Thread checks = new Thread(payment::answerChecks);
        checks.setDaemon(true);
        checks.start();
        while (payment.paid().size() < count) {
            payment.pay();
        }
        // What earlier runs left undecided is asked about within seconds.
        String open = "/api/v1/half-messages?producerGroup=" + GROUP;
        while (!payment.call("GET", open, null).get("halfMessages").isEmpty()) {
            Thread.sleep(100);
        }
        for (String order : payment.paid()) {
            System.out.println("paid " + order);
        }
        System.exit(0);
    }

    private void pay() throws Exception {
        String order = UUID.randomUUID().toString();
        crash();
        // The same messageId again gives the same transaction: a retry sends nothing twice.
        Map<String, String> half =
                Map.of("payload", "order " + order, "key", order, "messageId", order, "producerGroup", GROUP);
        String transaction =
                call("POST", "/api/v1/topics/" + TOPIC + "/half-messages", half).get("transactionId").asText();
        crash();
        String state = decide(order, RANDOM.nextDouble() > 0.1 ? "paid" : "cancelled");
        crash();
        end(transaction, state);
        crash();
    }

    /** Answers the broker's questions about orders whose program died. */
    private void answerChecks() {
        try {
            while (true) {
                String path = "/api/v1/producer-groups/" + GROUP + "/checks?waitMs=1000&max=16";
                for (JsonNode check : call("GET", path, null).get("checks")) {
                    // An order that is not in the database was never paid, and from here on never will be.
                    String state = decide(check.get("messageId").asText(), "cancelled");
                    end(check.get("transactionId").asText(), state);
                }
            }
        } catch (Exception error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private void end(String transaction, String state) throws Exception {
        String decision = state.equals("paid") ? "commit" : "rollback";
        call("POST", "/api/v1/half-messages/" + transaction + "/" + decision, Map.of());
    }

    /** Calls until the broker answers: all of these calls may be repeated. */
    private JsonNode call(String method, String path, Object body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(api + path))
                .timeout(Duration.ofSeconds(30))
                .header("Content-Type", "application/json")
                .method(method, body == null
                        ? BodyPublishers.noBody()
                        : BodyPublishers.ofString(JSON.writeValueAsString(body)))
                .build();
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (System.nanoTime() < deadline) {
            try {
                HttpResponse<String> answer = http.send(request, BodyHandlers.ofString());
                if (answer.statusCode() < 300) {
                    return JSON.readTree(answer.body());
                }
                if (answer.statusCode() < 500) {
                    throw new IllegalStateException(method + " " + path + ": " + answer.body());
                }
            } catch (IOException away) {
                // The broker is away.
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("the broker does not come back");
    }

    private void crash() {
        if (RANDOM.nextDouble() < crashProbability) {
            Runtime.getRuntime().halt(137);
        }
    }

    private Connection connect() throws SQLException {
        // Without a WRITE_DELAY of 0, H2 calls a transaction committed before it is on disk.
        String options = ";WRITE_DELAY=0;DB_CLOSE_DELAY=-1;DB_CLOSE_ON_EXIT=FALSE";
        return DriverManager.getConnection(database + options, "sa", "");
    }

    private void createTable() throws SQLException {
        try (Connection db = connect(); var statement = db.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS orders (id VARCHAR PRIMARY KEY, state VARCHAR)");
        }
    }

    /** Sets the state if there is none yet; returns the state that holds. An order has one, for ever. */
    private String decide(String order, String state) throws SQLException {
        try (Connection db = connect();
                var insert = db.prepareStatement("INSERT INTO orders SELECT ?, ? WHERE NOT EXISTS"
                        + " (SELECT 1 FROM orders WHERE id = ?)");
                var select = db.prepareStatement("SELECT state FROM orders WHERE id = ?")) {
            insert.setString(1, order);
            insert.setString(2, state);
            insert.setString(3, order);
            try {
                insert.executeUpdate();
            } catch (SQLException taken) {
                if (!taken.getSQLState().startsWith("23")) {
                    throw taken;
                }
            }
            select.setString(1, order);
            try (var row = select.executeQuery()) {
                row.next();
                return row.getString(1);
            }
        }
    }

    private List<String> paid() throws SQLException {
        List<String> orders = new ArrayList<>();
        try (Connection db = connect();
                var statement = db.createStatement();
                var row = statement.executeQuery("SELECT id FROM orders WHERE state = 'paid'")) {
            while (row.next()) {
                orders.add(row.getString(1));
            }
        }
        return orders;
    }
}
